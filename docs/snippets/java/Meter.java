/** A home's month against the same month a year earlier, then, once the tariff year is over, its settlement. */

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

class Meter {
    static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    public static void main(String[] arguments) throws Exception {
        // The meter and the month are one event, from the first midnight of the month in Shanghai
        post("/v1/activities", "application/cloudevents+json", """
            {"specversion": "1.0", "type": "org.tanpuhui.activity.v1", "source": "%s",
             "id": "meter-310104-0007-2026-04", "subject": "rider-8",
             "data": {"scenario": "demo-home-electricity", "inputs": {},
                      "started_at": "2026-04-01T00:00:00+08:00", "ended_at": "2026-05-01T00:00:00+08:00",
                      "references": {"meter": "310104-0007", "address": "QN-2207-1502"},
                      "readings": {"use_kwh": {"kind": "cumulative",
                        "at": [["2026-04-01T00:00:00+08:00", "9120.5"], ["2026-05-01T00:00:00+08:00", "9300.5"]]}},
                      "baseline": {"baseline_kwh": {"kind": "cumulative",
                        "at": [["2025-04-01T00:00:00+08:00", "6541.25"], ["2025-05-01T00:00:00+08:00", "6771.25"]]}}}}
            """.formatted(System.getenv("SOURCE")));
        post("/v1/settlements", "application/json", """
            {"subject": "rider-8", "scenario": "demo-home-electricity",
             "first_day": "2026-01-01", "last_day": "2026-12-31", "facts": {"tier": 2, "has_pv": 0}}""");
    }

    static void post(String path, String kind, String body) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(System.getenv("PLATFORM") + path))
            .header("Authorization", "Bearer " + System.getenv("PROVIDER_TOKEN"))
            .header("Accept-Language", System.getenv("READ_IN")).header("Content-Type", kind)
            .POST(HttpRequest.BodyPublishers.ofString(body)).build();
        HttpResponse<String> answer = CLIENT.send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.statusCode() + " " + answer.body());
    }
}
