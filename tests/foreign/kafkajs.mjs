// The original's own client: node kafkajs.mjs <package> <broker> <topic> <events>. Produces events with gzip and its
// default partitioner, then reads the topic from the beginning and prints what each record is, as lines of JSON.
const [entry, broker, topic, count] = process.argv.slice(2);
const { CompressionTypes, Kafka, logLevel } = (await import(entry)).default;

const kafka = new Kafka({ brokers: [broker], clientId: 'foreign', logLevel: logLevel.NOTHING });
const producer = kafka.producer({ idempotent: true });
await producer.connect();
const ids = Array.from({ length: Number(count) }, (_, n) => `0190a0a0-0000-7000-8000-${String(n).padStart(12, '0')}`);
await producer.send({
  topic,
  compression: CompressionTypes.GZIP,
  messages: ids.map((eventId, n) => {
    const event = { eventId, userId: `kafkajs-${n % 7}`, eventType: 'LOGIN', timestamp: new Date(0).toISOString(), payload: {} };
    return { key: event.userId, value: JSON.stringify(event), headers: { 'event-type': 'LOGIN', 'event-id': eventId } };
  }),
});
await producer.disconnect();

const consumer = kafka.consumer({ groupId: `foreign-of-${topic}` });
await consumer.connect();
await consumer.subscribe({ topic, fromBeginning: true });
let left = Number(count) + 1; // and the one that the command side wrote
await new Promise((resolve) => {
  consumer.run({
    eachMessage: async ({ message }) => {
      const event = JSON.parse(message.value.toString());
      const headers = Object.fromEntries(Object.entries(message.headers).map(([name, value]) => [name, value.toString()]));
      console.log(JSON.stringify({ key: message.key.toString(), event, headers }));
      left -= 1;
      if (left === 0) resolve();
    },
  });
});
await consumer.disconnect();
