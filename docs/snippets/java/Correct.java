/** Put a right event in the place of a wrong one, and take back one that never took place. */

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

class Correct {
    static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    public static void main(String[] arguments) throws Exception {
        // The wrong one's credit is taken back, this one's takes its place
        post("/v1/activities", "application/cloudevents+json", """
            {"specversion": "1.0", "type": "org.tanpuhui.activity.v1", "source": "%s",
             "id": "order-1001-corrected", "subject": "rider-7",
             "data": {"scenario": "shared-ebike", "replaces": "order-1001",
                      "started_at": "2026-05-01T08:00:00+08:00", "ended_at": "2026-05-01T08:12:00+08:00",
                      "inputs": {"distance_km": "2.53"}, "basis": {"distance_km": "track"},
                      "vehicle": "1381", "references": {"operator": "example.com", "order": "1001"}}}
            """.formatted(System.getenv("SOURCE")));
        post("/v1/retractions", "application/json", """
            {"ids": ["order-1002"], "dry_run": false}""");
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
