// What openapi-generator makes for TypeScript: post, post a batch, follow pages. Arguments: command side, query side, user.
import * as commands from './commands';
import * as queries from './queries';

declare const process: { argv: string[]; exitCode: number };

async function main(): Promise<void> {
  const [write, read, user] = process.argv.slice(2);
  const api = new commands.DefaultApi(new commands.Configuration({ basePath: write }));
  const payload = { productId: 'p-42', nested: [1, { deep: null }] };
  const command: commands.Command = { userId: user, eventType: 'PRODUCT_VIEW', payload };
  const accepted = await api.generateEvent({ command, idempotencyKey: 'posted-by-typescript' });
  const batch = await api.generateEvents({ batchItem: [{ userId: user, eventType: 'LOGOUT' }] });
  if (!batch.success || batch.accepted !== 1) throw new Error(JSON.stringify(batch));
  const events = new queries.EventsApi(new queries.Configuration({ basePath: read }));
  let page: queries.Event[] = [];
  while (page.length < 2) {
    page = await events.getProcessedEvents({ userId: user, limit: 10 });
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  let cursor: string | undefined;
  for (const wanted of page) {
    const answer = await events.getProcessedEventsRaw({ userId: user, limit: 1, cursor });
    const [one] = await answer.value();
    if (one.eventId !== wanted.eventId) throw new Error(JSON.stringify(one));
    cursor = /cursor=([^&>]+)/.exec(answer.raw.headers.get('link') ?? '')?.[1];
  }
  const found = await events.getEvent({ eventId: accepted.event.eventId });
  if (JSON.stringify(found.payload['nested']) !== '[1,{"deep":null}]') throw new Error(JSON.stringify(found));
  console.log(`['${page[0].eventType}', '${page[1].eventType}']`);
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
