/**
 * Report a file of rides: java SendRides.java rides.csv outcomes.csv [--dry-run] [--batch 500]
 *
 * outcomes.csv gets a line for every ride that was answered, after each batch. After a crash, a kill or a long outage
 * the same command goes on from there. What was answered and not written down is sent again, and answered as before.
 */

import java.io.IOException;
import java.math.BigDecimal;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

class SendRides {
    static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    static final Set<Integer> AGAIN = Set.of(408, 429, 500, 502, 503, 504); // the same again
    static final String SCENARIO = "shared-ebike";
    static final String HEADING = "id,scenario,outcome,reduction_mg,points,at,reason\n";

    public static void main(String[] arguments) throws Exception {
        List<String> words = List.of(arguments);
        int size = words.contains("--batch") ? Integer.parseInt(words.get(words.indexOf("--batch") + 1)) : 500;
        boolean dryRun = words.contains("--dry-run");
        Set<String> known = decided(Path.of(words.get(1)));
        List<Map.Entry<String, String>> events = events(Path.of(words.get(0)), known);
        Map<String, Integer> counts = new TreeMap<>();
        try (FileChannel outcomes = FileChannel.open(Path.of(words.get(1)), StandardOpenOption.APPEND)) {
            for (int from = 0; from < events.size(); from += size) {
                List<Map.Entry<String, String>> batch = events.subList(from, Math.min(from + size, events.size()));
                String body = batch.stream().map(Map.Entry::getValue).collect(Collectors.joining(",", "[", "]"));
                String path = "/v1/activities" + (dryRun ? "?dry_run=true" : "");
                HttpResponse<String> answer = ask("POST", path, body, "application/cloudevents-batch+json");
                if (answer.statusCode() != 200) { // the batch as a whole: token, size or quota
                    throw new IOException(answer.statusCode() + " " + answer.body());
                }
                StringBuilder lines = new StringBuilder();
                for (Map<?, ?> item : list(map(answer.body()).get("outcomes"))) {
                    String[] line = line(item);
                    counts.merge((line[2] + " " + line[6]).strip(), 1, Integer::sum);
                    lines.append(String.join(",", line)).append('\n');
                }
                if (!dryRun) {
                    outcomes.write(ByteBuffer.wrap(lines.toString().getBytes("UTF-8")));
                    outcomes.force(true); // on the disk before the next batch leaves
                }
            }
        }
        System.out.println(counts.isEmpty() ? "nothing left to send" : counts);
    }

    /** The events of the file that have no answer yet, by id. */
    static List<Map.Entry<String, String>> events(Path rides, Set<String> known) throws IOException {
        List<Map.Entry<String, String>> found = new ArrayList<>();
        List<String> lines = Files.readAllLines(rides);
        for (int number = 1; number < lines.size(); number++) {
            String[] row = lines.get(number).split(",", -1); // order_no,bike_no,rider,unlocked_at,locked_at,metres
            try {
                String id = "order-" + row[0]; // from your record: never a random number, never the time of sending
                String event = event(id, row);
                if (known.add(id)) {
                    found.add(Map.entry(id, event));
                }
            } catch (RuntimeException fault) {
                System.err.println(rides + " line " + (number + 1) + ": not sent, " + fault);
            }
        }
        return found;
    }

    static String event(String id, String[] row) {
        BigDecimal km = new BigDecimal(row[5]).movePointLeft(3); // exact: no double on the way
        return """
            {"specversion": "1.0", "type": "org.tanpuhui.activity.v1", "source": %s, "id": %s, "subject": %s,
             "data": {"scenario": "%s", "started_at": "%s", "ended_at": "%s", "inputs": {"distance_km": "%s"},
                      "basis": {"distance_km": "track"}, "vehicle": %s,
                      "references": {"operator": "example.com", "order": %s}}}"""
            .formatted(quote(System.getenv("SOURCE")), quote(id), quote(row[2]), SCENARIO, moment(row[3]),
                moment(row[4]), km.toPlainString(), quote(row[1]), quote(row[0]));
    }

    static String moment(String text) { // local time of Shanghai, with its offset
        return LocalDateTime.parse(text.replace(' ', 'T')).atOffset(ZoneOffset.ofHours(8))
            .format(DateTimeFormatter.ISO_OFFSET_DATE_TIME);
    }

    /** Ids with their final answer. A last line that a crash cut off is removed: that ride is sent again. */
    static Set<String> decided(Path path) throws IOException {
        String text = Files.exists(path) ? Files.readString(path) : "";
        String whole = text.substring(0, text.lastIndexOf('\n') + 1);
        Files.writeString(path, whole.isEmpty() ? HEADING : whole);
        return whole.lines().map(line -> line.split(",")).filter(cells -> !cells[2].equals("unkept"))
            .map(cells -> cells[0]).collect(Collectors.toCollection(HashSet::new));
    }

    /** An outcome as a line. A duplicate that we have no line of is one whose first answer was lost: it is that one. */
    static String[] line(Map<?, ?> item) {
        Map<?, ?> first = item.get("first") instanceof Map<?, ?> earlier ? earlier : item;
        boolean credited = "credited".equals(first.get("outcome"));
        Object stored = credited ? first.get("transfer_id") : ((Map<?, ?>) first.get("problem")).get("activity_id");
        Instant at = Instant.now().truncatedTo(ChronoUnit.MILLIS);
        if (stored != null) { // the time of arrival: a UUIDv7 begins with its milliseconds
            at = Instant.ofEpochMilli(Long.parseLong(stored.toString().replace("-", "").substring(0, 12), 16));
        }
        String id = item.get("id").toString();
        if (credited) {
            return new String[] {id, SCENARIO, "credited", first.get("reduction_mg").toString(),
                first.get("points").toString(), at.toString(), ""};
        }
        String reason = ((Map<?, ?>) first.get("problem")).get("type").toString().replaceAll(".*[:/#]", "");
        String outcome = stored != null ? "refused" : "unkept"; // unkept: mend it, then the same id again
        return new String[] {id, SCENARIO, outcome, "", "", at.toString(), reason};
    }

    /** The answer. It may take minutes: whatever is not answered is sent again, unchanged. */
    static HttpResponse<String> ask(String method, String path, String body, String kind) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(System.getenv("PLATFORM") + path))
            .timeout(Duration.ofSeconds(60))
            .header("Authorization", "Bearer " + System.getenv("PROVIDER_TOKEN")) // or fetch a new one before it ends
            .header("Accept-Language", System.getenv("READ_IN")).header("Content-Type", kind)
            .method(method, body == null ? BodyPublishers.noBody() : BodyPublishers.ofString(body)).build();
        Instant giveUp = Instant.now().plusSeconds(300);
        for (long pause = 500;; pause = Math.min(2 * pause, 10_000)) {
            long wait = ThreadLocalRandom.current().nextLong(pause);
            try {
                HttpResponse<String> answer = CLIENT.send(request, BodyHandlers.ofString());
                var asked = answer.headers().firstValueAsLong("Retry-After");
                boolean tooLarge = answer.statusCode() == 429 && asked.isEmpty(); // alone over the quota: split it
                if (tooLarge || !AGAIN.contains(answer.statusCode())) {
                    return answer;
                }
                wait += 1000 * asked.orElse(0);
            } catch (IOException noAnswer) { // no connection, cut off, or nothing in time
                if (Instant.now().plusMillis(wait).isAfter(giveUp)) {
                    throw noAnswer;
                }
            }
            if (Instant.now().plusMillis(wait).isAfter(giveUp)) {
                throw new IOException(path + ": no answer. Start again later: nothing counts twice.");
            }
            Thread.sleep(wait);
        }
    }

    // JSON in a few lines; take your own library instead. Numbers, true and false stay texts.
    static final Pattern TOKEN = Pattern.compile("[\\[\\]{}:,]|\"(?:[^\"\\\\]|\\\\.)*+\"|[^\\s\\[\\]{}:,\"]+");

    static Map<?, ?> map(String json) {
        Iterator<String> tokens = TOKEN.matcher(json).results().map(MatchResult::group).iterator();
        return (Map<?, ?>) value(tokens.next(), tokens);
    }

    @SuppressWarnings("unchecked")
    static List<Map<?, ?>> list(Object value) {
        return (List<Map<?, ?>>) value;
    }

    static Object value(String token, Iterator<String> tokens) {
        if (token.equals("{")) {
            Map<String, Object> found = new LinkedHashMap<>();
            for (String next = tokens.next(); !next.equals("}"); next = tokens.next()) {
                String name = next.equals(",") ? tokens.next() : next;
                tokens.next(); // the colon
                found.put(text(name), value(tokens.next(), tokens));
            }
            return found;
        }
        if (token.equals("[")) {
            List<Object> found = new ArrayList<>();
            for (String next = tokens.next(); !next.equals("]"); next = tokens.next()) {
                found.add(value(next.equals(",") ? tokens.next() : next, tokens));
            }
            return found;
        }
        return token.startsWith("\"") ? text(token) : token.equals("null") ? null : token;
    }

    static String text(String token) {
        return token.substring(1, token.length() - 1).translateEscapes();
    }

    static String quote(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }
}
