// One EventSource, npm's or the polyfill: node streams.mjs <eventsource | polyfill> <url>
// Prints each event as a line of JSON; `{"kind":"open"}` whenever it is connected, `{"kind":"closed"}` once it gave up.
import { createRequire } from "node:module";

const require = createRequire(`${process.cwd()}/package.json`);
const [which, url] = process.argv.slice(2);
const say = (line) => console.log(JSON.stringify(line));
let source;
if (which === "polyfill") {
  const { NativeEventSource, EventSourcePolyfill } = require("event-source-polyfill");
  source = new EventSourcePolyfill(url, { heartbeatTimeout: 60000 });
} else {
  const { EventSource } = await import(require.resolve("eventsource"));
  source = new EventSource(url);
}
source.onopen = () => say({ kind: "open" });
source.onerror = () => source.readyState === 2 && say({ kind: "closed" });
for (const kind of ["begin", "LOGIN", "end"]) {
  source.addEventListener(kind, (event) => say({ kind, id: event.lastEventId, data: event.data }));
}
