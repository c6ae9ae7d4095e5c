import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;

/** Java's HttpClient as everybody makes it: it asks for an upgrade to h2c with each first request. */
public class DefaultClient {
    static final String COMMAND = "{\"userId\":\"java\",\"eventType\":\"LOGIN\"}";

    public static void main(String[] arguments) throws Exception {
        String front = arguments[0];
        say("POST", HttpRequest.newBuilder(URI.create(front + "/events/generate"))
                .header("Content-Type", "application/json").POST(BodyPublishers.ofString(COMMAND)));
        say("POST in chunks", HttpRequest.newBuilder(URI.create(front + "/events/generate"))
                .header("Content-Type", "application/json")
                .POST(BodyPublishers.ofInputStream(() -> new java.io.ByteArrayInputStream(COMMAND.getBytes()))));
        say("empty POST", HttpRequest.newBuilder(URI.create(front + "/events/generate"))
                .header("Content-Type", "application/json").POST(BodyPublishers.noBody()));
        say("GET", HttpRequest.newBuilder(URI.create(front + "/health/live")).GET());
        say("GET events", HttpRequest.newBuilder(URI.create(front + "/events/processed?limit=1")).GET());
    }

    static void say(String what, HttpRequest.Builder request) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        int first = client.send(request.build(), BodyHandlers.ofString()).statusCode();
        int second = client.send(request.build(), BodyHandlers.ofString()).statusCode();
        System.out.println(what + ": " + first + " " + second);
    }
}
