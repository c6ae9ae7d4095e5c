// What openapi-generator makes for Java: post, post a batch, follow pages. Arguments: command side, query side, user.
import client.commands.api.DefaultApi;
import client.commands.model.BatchItem;
import client.commands.model.Command;
import client.queries.api.EventsApi;
import client.queries.model.Event;
import java.util.List;
import java.util.Map;

public class Client {
    public static void main(String[] arguments) throws Exception {
        String user = arguments[2];
        var write = new client.commands.ApiClient();
        write.updateBaseUri(arguments[0]);
        var commands = new DefaultApi(write);
        var command = new Command().userId(user).eventType(Command.EventTypeEnum.PRODUCT_VIEW);
        command.payload(Map.of("productId", "p-42", "nested", List.of(1, Map.of("deep", true))));
        var accepted = commands.generateEvent(command, "posted-by-java", null);
        var batch = commands.generateEvents(List.of(new BatchItem().userId(user).eventType(BatchItem.EventTypeEnum.LOGOUT)), null, null);
        if (!batch.getSuccess() || batch.getAccepted() != 1) {
            throw new IllegalStateException("batch: " + batch);
        }
        var read = new client.queries.ApiClient();
        read.updateBaseUri(arguments[1]);
        var events = new EventsApi(read);
        List<Event> page = List.of();
        while (page.size() < 2) {
            page = events.getProcessedEvents(user, null, null, null, null, null, 10, null, null, null, null, null);
            Thread.sleep(100);
        }
        String cursor = null;
        for (Event wanted : page) {
            var answer = events.getProcessedEventsWithHttpInfo(user, null, null, null, null, null, 1, cursor, null, null, null, null);
            if (!answer.getData().get(0).getEventId().equals(wanted.getEventId())) {
                throw new IllegalStateException("page: " + answer.getData());
            }
            var link = answer.getHeaders().getOrDefault("link", List.of("")).get(0);
            var next = java.util.regex.Pattern.compile("cursor=([^&>]+)").matcher(link);
            cursor = next.find() ? next.group(1) : null;
        }
        var found = events.getEvent(accepted.getEvent().getEventId(), null, null, null);
        if (((List<?>) found.getPayload().get("nested")).size() != 2) {
            throw new IllegalStateException("payload: " + found);
        }
        System.out.printf("['%s', '%s']%n", page.get(0).getEventType(), page.get(1).getEventType());
    }
}
