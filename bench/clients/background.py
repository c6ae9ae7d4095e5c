"""Writes events to Kafka until it is ended: `python -m bench.clients.background '<Background as JSON>'`."""

import asyncio
import itertools
import sys
import time

import msgspec
import uvloop

from bench.clients.history import append
from bench.clients.traffic import events
from command_side.app import producer_of
from command_side.publishing.produce_round import partition_chooser
from command_side.settings import CommandSettings
from contracts.record import to_record

SLICE = 0.01  # seconds between two writes
LONGEST = 1_800.0  # seconds after which it ends by itself
DISTINCT = 1_000_000  # events at most


class Background(msgspec.Struct, frozen=True):
    """The topic, and how many events a second to write."""

    topic: str
    per_second: int
    seed: int = 7


async def write(task: Background) -> None:
    """Writes a small batch to each partition every 10 ms, as several busy command sides would."""
    producer = producer_of(CommandSettings())
    await producer.start()
    partition_of = partition_chooser(len(await producer.partitions_for(task.topic)))
    source = events(task.seed, DISTINCT)
    started = time.perf_counter()
    written = 0
    while (elapsed := time.perf_counter() - started) < LONGEST:
        batches: dict[int, object] = {}
        for event in itertools.islice(source, int(elapsed * task.per_second) - written):
            record = to_record(event, str(event.event_id))
            partition = partition_of(record.key)
            append(batches.setdefault(partition, producer.create_batch()), record)
            written += 1
        for partition, batch in batches.items():
            await producer.send_batch(batch, task.topic, partition=partition)
        await asyncio.sleep(SLICE)


if __name__ == "__main__":
    uvloop.run(write(msgspec.json.decode(sys.argv[1], type=Background)))
