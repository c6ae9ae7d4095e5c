// The seed's stack, kept small, with the guarantees Footfall gives: validate, publish (acks=all, idempotent, gzip), 201.
// And its read side: an array in memory, which GET /events/processed answers whole.
// Environment: PORT, KAFKA_BOOTSTRAP_SERVERS, KAFKA_TOPIC, EVENTS (how many the array holds from the start).
'use strict';

const express = require('express');
const { CompressionTypes, Kafka, Partitioners, logLevel } = require('kafkajs');
const { v4: uuid } = require('uuid');

const TYPES = ['LOGIN', 'LOGOUT', 'PRODUCT_VIEW'];

function event({ userId, eventType, payload }) {
  return { eventId: uuid(), userId, eventType, timestamp: new Date().toISOString(), payload: payload || {} };
}

function problems(body) {
  const found = [];
  if (typeof body.userId !== 'string' || body.userId === '') found.push('userId must be a non-empty string');
  if (!TYPES.includes(body.eventType)) found.push(`eventType must be one of ${TYPES.join(', ')}`);
  if (body.payload !== undefined && (typeof body.payload !== 'object' || body.payload === null)) {
    found.push('payload must be an object');
  }
  return found;
}

const processed = Array.from({ length: Number(process.env.EVENTS || 0) }, (_, n) =>
  event({
    userId: `user-${String(n % 5000).padStart(5, '0')}`,
    eventType: 'PRODUCT_VIEW',
    payload: { productId: `p-${n % 2000}`, price: 12.34, referrer: 'https://www.google.com/', ip: '10.1.2.3' },
  }));

async function main() {
  const kafka = new Kafka({
    clientId: 'peer',
    brokers: process.env.KAFKA_BOOTSTRAP_SERVERS.split(','),
    logLevel: logLevel.ERROR,
  });
  const producer = kafka.producer({
    idempotent: true,
    retry: { retries: 3 },
    createPartitioner: Partitioners.DefaultPartitioner,
  });
  await producer.connect();

  const app = express();
  app.use(express.json());
  app.post('/events/generate', async (request, response) => {
    const errors = problems(request.body);
    if (errors.length) {
      response.status(400).json({ success: false, event: null, errors, error: null });
      return;
    }
    const made = event(request.body);
    try {
      await producer.send({
        topic: process.env.KAFKA_TOPIC,
        acks: -1,
        timeout: 30000,
        compression: CompressionTypes.GZIP,
        messages: [{
          key: made.userId,
          value: JSON.stringify(made),
          headers: { 'event-type': made.eventType, 'event-id': made.eventId },
        }],
      });
    } catch {
      response.status(500).json({ success: false, event: null, errors: null, error: 'Failed to publish event' });
      return;
    }
    response.status(201).json({ success: true, event: made, errors: null, error: null });
  });
  app.get('/events/processed', (_request, response) => response.json(processed));
  app.listen(Number(process.env.PORT), '127.0.0.1');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
