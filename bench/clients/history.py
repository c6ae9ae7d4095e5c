"""Fills a topic with events as fast as aiokafka can: `python -m bench.clients.history '<History as JSON>'`."""

import asyncio
import sys
import time

import msgspec
import uvloop

from bench.clients.traffic import events
from command_side.app import producer_of
from command_side.publishing.produce_round import partition_chooser
from command_side.settings import CommandSettings
from contracts.record import HEADER_TRACEPARENT, EventRecord, to_record
from telemetry.traces.context import Context


class History(msgspec.Struct, frozen=True):
    """The topic, and how many events to write. `traced`: one in so many belongs to a sampled trace; 0: none."""

    topic: str
    count: int
    seed: int = 1
    traced: int = 0


class Filled(msgspec.Struct, frozen=True):
    """The number of events written, and the seconds that it took."""

    count: int
    seconds: float


async def fill(history: History) -> Filled:
    """Writes the events in order of time, with the keys and the compression of the command side."""
    producer = producer_of(CommandSettings())
    await producer.start()
    started = time.perf_counter()
    try:
        partitions = await producer.partitions_for(history.topic)
        partition_of = partition_chooser(len(partitions))
        open_batches = {partition: producer.create_batch() for partition in partitions}
        for number, event in enumerate(events(history.seed, history.count)):
            record = to_record(event, str(event.event_id))
            if history.traced and number % history.traced == 0:
                record.headers.append((HEADER_TRACEPARENT, Context(number + 1, number + 1, True).header()))
            partition = partition_of(record.key)
            if not append(open_batches[partition], record):
                await producer.send_batch(open_batches[partition], history.topic, partition=partition)
                open_batches[partition] = producer.create_batch()
                append(open_batches[partition], record)
        for partition, batch in open_batches.items():
            await producer.send_batch(batch, history.topic, partition=partition)
        await producer.flush()
    finally:
        async with asyncio.timeout(10):
            await producer.stop()
    return Filled(history.count, time.perf_counter() - started)


def append(batch: object, record: EventRecord) -> bool:
    """Appends a record; returns whether it fitted into the batch."""
    now = int(time.time() * 1000)
    return batch.append(timestamp=now, key=record.key, value=record.value, headers=record.headers) is not None  # type: ignore[attr-defined]


if __name__ == "__main__":
    found = uvloop.run(fill(msgspec.json.decode(sys.argv[1], type=History)))
    print(msgspec.json.encode(found).decode())
