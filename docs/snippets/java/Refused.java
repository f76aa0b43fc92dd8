/** Refusals: read the problem, mend what can be mended under the same id, and leave what is final. */

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

class Refused {
    static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    public static void main(String[] arguments) throws Exception {
        explain(report("order-1002", "2026-05-01T18:00:00", "2026-05-01T18:20:00+08:00", "4,2"));
        report("order-1002", "2026-05-01T18:00:00+08:00", "2026-05-01T18:20:00+08:00", "4.2"); // mended, the same id

        // Final: 40 seconds are no ride, and asking again changes nothing
        explain(report("order-1003", "2026-05-01T19:00:00+08:00", "2026-05-01T19:00:40+08:00", "0.21"));
    }

    static String report(String id, String startedAt, String endedAt, String km) throws Exception {
        String event = """
            {"specversion": "1.0", "type": "org.tanpuhui.activity.v1", "source": "%s",
             "id": "%s", "subject": "rider-7",
             "data": {"scenario": "shared-ebike", "started_at": "%s", "ended_at": "%s",
                      "inputs": {"distance_km": "%s"}}}
            """.formatted(System.getenv("SOURCE"), id, startedAt, endedAt, km);
        HttpResponse<String> answer = send(ask("/v1/activities")
            .header("Authorization", "Bearer " + System.getenv("PROVIDER_TOKEN"))
            .header("Content-Type", "application/cloudevents+json").POST(BodyPublishers.ofString(event)));
        System.out.println(answer.statusCode() + " " + answer.body());
        return answer.body();
    }

    /** What kind of problem it is goes by the last part of its type, never by its texts. */
    static void explain(String problem) throws Exception {
        String[] type = find("\"type\":\"([^\"]+)\"", problem).split("[:/#]");
        String page = send(ask("/v1/problems/" + type[type.length - 1])).body();
        boolean isFinal = page.contains("\"final\":true");
        System.out.println("  " + type[type.length - 1] + (isFinal ? ", final. " : ", not final. ")
            + find("\"remedy\":\"([^\"]+)\"", page));
        Pattern.compile("\"pointer\":\"[^\"]+\"").matcher(problem).results()
            .forEach(place -> System.out.println("  " + place.group()));
    }

    static HttpRequest.Builder ask(String path) {
        return HttpRequest.newBuilder(URI.create(System.getenv("PLATFORM") + path))
            .header("Accept-Language", System.getenv("READ_IN"));
    }

    static HttpResponse<String> send(HttpRequest.Builder request) throws Exception {
        return CLIENT.send(request.build(), HttpResponse.BodyHandlers.ofString());
    }

    static String find(String pattern, String text) { // a JSON library does this better; SendRides.java has a small one
        Matcher found = Pattern.compile(pattern).matcher(text);
        return found.find() ? found.group(1) : "";
    }
}
