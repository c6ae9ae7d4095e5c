"""A slow archive: a fetch that is given up takes no record with it, whatever it had already found."""

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from operations.archive.consumer import ArchiveConsumer
from tests.patience import PATIENCE

TOPIC = "events"
QUICK, SLOW = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)


class SlowRecords:
    """Two partitions of two blocks each; the blocks of one are loaded when they are released."""

    manifest = SimpleNamespace(spans={0: (0, 6), 1: (0, 6)})

    def __init__(self) -> None:
        self.released = threading.Event()
        self.loads: list[tuple[int, int]] = []

    def places(self, partition: int, offset: int) -> Iterator[tuple[int, int]]:
        yield from ((partition, begin) for begin in (0, 3) if begin + 3 > offset)

    def load(self, place: tuple[int, int]) -> list[Any]:
        partition, begin = place
        self.loads.append(place)
        if partition == SLOW.partition:
            assert self.released.wait(PATIENCE)
        return [SimpleNamespace(offset=offset) for offset in range(begin, begin + 3)]


@pytest.fixture
def records() -> Iterator[SlowRecords]:
    found = SlowRecords()
    yield found
    found.released.set()


async def given_up(consumer: ArchiveConsumer) -> None:
    """A fetch that ends by its time, as the projector's does."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await consumer.getmany(SLOW, timeout_ms=60_000, max_records=100)


async def offsets(consumer: ArchiveConsumer, count: int) -> list[int]:
    """The next offsets of both partitions, in the order in which they came."""
    found: dict[TopicPartition, list[int]] = {QUICK: [], SLOW: []}
    while sum(map(len, found.values())) < count:
        fetched = await consumer.getmany(QUICK, SLOW, timeout_ms=10, max_records=2)
        for tp, taken in fetched.items():
            found[tp] += [record.offset for record in taken]
    return found[QUICK] + found[SLOW]


async def test_what_is_quick_does_not_wait_for_what_is_slow(records: SlowRecords) -> None:
    consumer = ArchiveConsumer(records, TOPIC)  # type: ignore[arg-type]
    for tp in (QUICK, SLOW):
        consumer.seek(tp, 1)
    async with asyncio.timeout(PATIENCE):
        assert await offsets(consumer, 5) == [1, 2, 3, 4, 5]
        await given_up(consumer)
        records.released.set()
        assert await offsets(consumer, 5) == [1, 2, 3, 4, 5]
    assert records.loads.count((SLOW.partition, 0)) == 1  # what the fetch that was given up had begun


async def test_a_fetch_that_is_given_up_at_any_moment_loses_nothing(records: SlowRecords) -> None:
    """At each turn of the loop once: never are records taken and something else awaited."""
    records.released.set()
    for turns in range(12):
        consumer = ArchiveConsumer(records, TOPIC)  # type: ignore[arg-type]
        for tp in (QUICK, SLOW):
            consumer.seek(tp, 0)
        fetch = asyncio.create_task(consumer.getmany(QUICK, SLOW, timeout_ms=60_000, max_records=100))
        for _ in range(turns):
            await asyncio.sleep(0)
        fetch.cancel()
        await asyncio.wait([fetch])
        before = 0 if fetch.cancelled() else sum(map(len, fetch.result().values()))
        async with asyncio.timeout(PATIENCE):
            left = await offsets(consumer, 12 - before)
        assert len(left) == 12 - before
        if before == 0:
            assert left == [0, 1, 2, 3, 4, 5] * 2
