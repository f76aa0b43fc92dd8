/** The first ride: one event, one answer. Java 17: java FirstRide.java */

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

class FirstRide {
    public static void main(String[] arguments) throws Exception {
        String ride = """
            {"specversion": "1.0", "type": "org.tanpuhui.activity.v1", "source": "%s",
             "id": "order-1001", "subject": "rider-7",
             "data": {"scenario": "shared-ebike",
                      "started_at": "2026-05-01T08:00:00+08:00", "ended_at": "2026-05-01T08:12:00+08:00",
                      "inputs": {"distance_km": "2.35"}, "basis": {"distance_km": "track"},
                      "vehicle": "1381", "references": {"operator": "example.com", "order": "1001"}}}
            """.formatted(System.getenv("SOURCE"));
        HttpRequest request = HttpRequest.newBuilder(URI.create(System.getenv("PLATFORM") + "/v1/activities"))
            .version(HttpClient.Version.HTTP_1_1) // without TLS, Java asks for HTTP/2 by an upgrade: refused
            .header("Authorization", "Bearer " + System.getenv("PROVIDER_TOKEN"))
            .header("Accept-Language", System.getenv("READ_IN"))
            .header("Content-Type", "application/cloudevents+json")
            .POST(HttpRequest.BodyPublishers.ofString(ride)) // UTF-8
            .build();
        HttpResponse<String> answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.statusCode() + " " + answer.body());
    }
}
