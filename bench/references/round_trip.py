"""Bare produce round trips: `python -m bench.references.round_trip '<RoundTrips as JSON>'` prints one `Timed` as JSON.

It sends one record in a batch and one batch at a time, through a producer with the command side's settings.
"""

import asyncio
import gc
import sys
import time

import msgspec
import uvloop

from bench.clients.load import quantile
from bench.clients.traffic import events
from command_side.app import producer_of
from command_side.publishing.produce_round import partition_chooser
from command_side.settings import CommandSettings
from contracts.record import to_record


class RoundTrips(msgspec.Struct, frozen=True):
    """The topic, and how long to send (seconds)."""

    topic: str
    seconds: float
    warmup: float = 1.0  # seconds that are not counted
    seed: int = 1


class Timed(msgspec.Struct, frozen=True):
    """Number of round trips in the counted time, and their latencies in milliseconds."""

    count: int
    p50: float
    p99: float


async def measure(task: RoundTrips) -> Timed:
    """Sends records one by one and times each until it is acknowledged."""
    records = [to_record(event, str(event.event_id)) for event in events(task.seed, 5_000)]
    producer = producer_of(CommandSettings())
    await producer.start()
    try:
        partition_of = partition_chooser(len(await producer.partitions_for(task.topic)))
        latencies: list[float] = []
        gc.disable()
        counted_from = time.perf_counter() + task.warmup
        number = 0
        while (started := time.perf_counter()) < counted_from + task.seconds:
            record = records[number % len(records)]
            number += 1
            batch = producer.create_batch()
            batch.append(timestamp=int(time.time() * 1000), key=record.key, value=record.value, headers=record.headers)
            await (await producer.send_batch(batch, task.topic, partition=partition_of(record.key)))
            if started >= counted_from:
                latencies.append(time.perf_counter() - started)
    finally:
        async with asyncio.timeout(5):
            await producer.stop()
    latencies.sort()
    return Timed(len(latencies), quantile(latencies, 0.5) * 1000, quantile(latencies, 0.99) * 1000)


if __name__ == "__main__":
    found = uvloop.run(measure(msgspec.json.decode(sys.argv[1], type=RoundTrips)))
    print(msgspec.json.encode(found).decode())
