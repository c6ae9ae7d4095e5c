"""Measures bare aiokafka: `python -m bench.references.bare_batches '<BareBatches as JSON>'` prints one `Sent` as JSON.

It sends records that were made beforehand with `create_batch` and `send_batch`, one batch in flight for each partition.
The producer has the settings of the command side and aiokafka's own compression.
"""

import asyncio
import gc
import sys
import time
from collections.abc import Sequence
from itertools import cycle
from typing import Literal

import msgspec
import uvloop
from aiokafka import AIOKafkaProducer

from bench.clients.traffic import events
from command_side.app import producer_of
from command_side.publishing.produce_round import partition_chooser
from command_side.settings import CommandSettings
from contracts.record import EventRecord, to_record

RECORDS = 20_000


class BareBatches(msgspec.Struct, frozen=True):
    """The topic, the compression, and how long to send (seconds)."""

    topic: str
    seconds: float
    compression: Literal["gzip", "zstd"]
    seed: int = 1


class Sent(msgspec.Struct, frozen=True):
    """The acknowledged events, and their rate in events a second."""

    events: int
    per_second: float


async def measure(task: BareBatches) -> Sent:
    """Sends to all partitions concurrently until the time is over."""
    producer = producer_of(CommandSettings(kafka_compression=task.compression))
    await producer.start()
    try:
        partitions = sorted(await producer.partitions_for(task.topic))
        partition_of = partition_chooser(len(partitions))
        by_partition: dict[int, list[EventRecord]] = {partition: [] for partition in partitions}
        for event in events(task.seed, RECORDS):
            record = to_record(event, str(event.event_id))
            by_partition[partition_of(record.key)].append(record)
        gc.disable()
        started = time.perf_counter()
        counts = await asyncio.gather(
            *(
                send_until(started + task.seconds, producer, task.topic, at, records)
                for at, records in by_partition.items()
            )
        )
        elapsed = time.perf_counter() - started
    finally:
        async with asyncio.timeout(5):
            await producer.stop()
    return Sent(sum(counts), sum(counts) / elapsed)


async def send_until(
    end: float, producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[EventRecord]
) -> int:
    """Fills and sends one batch after another; returns how many records were acknowledged."""
    endless, sent = cycle(records), 0
    while time.perf_counter() < end:
        batch, count, now = producer.create_batch(), 0, int(time.time() * 1000)
        for record in endless:
            if batch.append(timestamp=now, key=record.key, value=record.value, headers=record.headers) is None:
                break
            count += 1
        await (await producer.send_batch(batch, topic, partition=partition))
        sent += count
    return sent


if __name__ == "__main__":
    found = uvloop.run(measure(msgspec.json.decode(sys.argv[1], type=BareBatches)))
    print(msgspec.json.encode(found).decode())
