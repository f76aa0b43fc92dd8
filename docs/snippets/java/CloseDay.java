/** Close a day from the outcomes you kept: java CloseDay.java 2026-11-22 outcomes.csv [sequence] */

import java.math.BigInteger;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.Signature;
import java.security.spec.EdECPrivateKeySpec;
import java.security.spec.NamedParameterSpec;
import java.time.OffsetDateTime;
import java.time.ZoneId;
import java.util.Base64;
import java.util.Map;
import java.util.StringJoiner;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

class CloseDay {
    static final ZoneId SHANGHAI = ZoneId.of("Asia/Shanghai");

    public static void main(String[] arguments) throws Exception {
        String key = Files.readString(Path.of("rides-1.jwk"));
        int sequence = arguments.length > 2 ? Integer.parseInt(arguments[2]) : 1;
        String manifest = """
            {"v": "1", "source": "%s", "day": "%s", "sequence": %d, "scenarios": {%s}, "late": []}"""
            .formatted(System.getenv("SOURCE"), arguments[0], sequence, claims(arguments[0], Path.of(arguments[1])));
        HttpRequest request = HttpRequest.newBuilder(URI.create(System.getenv("PLATFORM") + "/v1/manifests"))
            .version(HttpClient.Version.HTTP_1_1)
            .header("Authorization", "Bearer " + System.getenv("PROVIDER_TOKEN"))
            .header("Accept-Language", System.getenv("READ_IN")).header("Content-Type", "application/jose")
            .POST(HttpRequest.BodyPublishers.ofString(signed(manifest, key))).build();
        HttpResponse<String> answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.statusCode() + " " + answer.body());
    }

    /** What was sent on this day of Shanghai and answered, by scenario. */
    static String claims(String day, Path outcomes) throws Exception {
        Map<String, long[]> found = new TreeMap<>(); // sent, credited, refused, duplicate, milligrams, points
        for (String line : Files.readAllLines(outcomes)) {
            String[] cell = line.split(",", -1); // id,scenario,outcome,reduction_mg,points,at
            if (cell[0].equals("id") || !day.equals(dayOf(cell[5]))) {
                continue;
            }
            long[] counts = found.computeIfAbsent(cell[1], scenario -> new long[6]);
            counts[0]++;
            switch (cell[2]) {
                case "credited" -> counts[1]++;
                case "refused" -> counts[2]++;
                case "duplicate" -> counts[3]++;
                default -> { } // what was not kept is in `sent` alone
            }
            counts[4] += cell[3].isEmpty() ? 0 : Long.parseLong(cell[3]);
            counts[5] += cell[4].isEmpty() ? 0 : Long.parseLong(cell[4]);
        }
        StringJoiner claims = new StringJoiner(", ");
        found.forEach((scenario, n) -> claims.add("""
            "%s": {"sent": %d, "credited": %d, "refused": %d, "duplicate": %d, "reduction_mg": "%d", "points": "%d"}"""
            .formatted(scenario, n[0], n[1], n[2], n[3], n[4], n[5])));
        return claims.toString();
    }

    static String dayOf(String at) {
        return OffsetDateTime.parse(at).atZoneSameInstant(SHANGHAI).toLocalDate().toString();
    }

    /** A compact JWS (RFC 7515) by an Ed25519 key. */
    static String signed(String payload, String jwk) throws Exception {
        byte[] secret = Base64.getUrlDecoder().decode(member("d", jwk));
        PrivateKey key = KeyFactory.getInstance("Ed25519")
            .generatePrivate(new EdECPrivateKeySpec(NamedParameterSpec.ED25519, secret));
        String text = encoded("{\"alg\": \"EdDSA\", \"kid\": \"" + member("kid", jwk) + "\"}") + "." + encoded(payload);
        Signature signature = Signature.getInstance("Ed25519");
        signature.initSign(key);
        signature.update(text.getBytes(StandardCharsets.US_ASCII));
        return text + "." + Base64.getUrlEncoder().withoutPadding().encodeToString(signature.sign());
    }

    static String encoded(String text) {
        return Base64.getUrlEncoder().withoutPadding().encodeToString(text.getBytes(StandardCharsets.UTF_8));
    }

    static String member(String name, String jwk) {
        Matcher found = Pattern.compile("\"" + name + "\":\\s*\"([^\"]+)\"").matcher(jwk);
        if (!found.find()) {
            throw new IllegalArgumentException("rides-1.jwk has no " + name);
        }
        return found.group(1);
    }
}
