"""One client of the stream that reads slowly does not hold up the others, and is waited for again once it has read."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from query_side.feed import broadcaster
from query_side.feed.broadcaster import Broadcaster, Filter, Subscriber
from query_side.feed.pages import LogEntry, Page
from query_side.log_positions.cursors import Cursors
from query_side.log_positions.positions import PartitionProgress, ReaderPosition, ReadModelState
from query_side.log_positions.progress import Progress
from query_side.log_positions.served_history import ServedHistory
from tests.drivers.raw_http import until, within

TENANT = "default"
FOR_EVER = 86_400.0  # seconds


class BurstOfPages:
    """A read model with page after page: a page has an event of `quick`, and the first one an event of `slow`."""

    def __init__(self) -> None:
        self.read = 0

    async def refresh(self) -> ReadModelState:
        return ReadModelState({0: PartitionProgress(0, 0)}, ServedHistory())

    def next_advance(self) -> asyncio.Event:
        return asyncio.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        yield

    async def page(self, _pool: object, _tenants: object, _topic: str, since: ReaderPosition, _limit: int) -> Page:
        await asyncio.sleep(0)
        offset = since.at[0].next_offset
        users = ("slow", "quick") if self.read % 4 == 0 else ("quick",)
        self.read += 1
        entries = [
            LogEntry(0, PartitionProgress(offset + n + 1, 0), "{}", TENANT, user, "LOGIN", None)
            for n, user in enumerate(users)
        ]
        return Page(since.at, entries, {0: entries[-1].reached}, more=True)


@pytest.fixture
def burst(monkeypatch: pytest.MonkeyPatch) -> BurstOfPages:
    found = BurstOfPages()
    monkeypatch.setattr(broadcaster, "read_page_of_all", found.page)
    return found


async def test_a_burst_waits_once_for_who_does_not_read_and_again_once_it_has_read(
    burst: BurstOfPages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcaster, "PATIENCE", 0.01)
    tail = Broadcaster(cast(Progress, burst), cast("Callable[[], Any]", lambda: None), "topic", FOR_EVER)
    slow, quick = Subscriber(Filter(TENANT, "slow")), Subscriber(Filter(TENANT, "quick"))
    with tail.kept_reading(TENANT):
        running = asyncio.create_task(tail.run(Cursors(b"a key of the test")))
        await within(tail.position())
        tail.subscribe(slow)
        tail.subscribe(quick)
        reading = asyncio.create_task(drain(quick))
        await until(lambda: slow.is_late)
        monkeypatch.setattr(broadcaster, "PATIENCE", FOR_EVER)
        before = burst.read
        await until(lambda: burst.read > before + 20)  # it does not wait for `slow`, which has read nothing
        reading_too = asyncio.create_task(drain(slow))
        await until(lambda: not slow.is_late)
        reading_too.cancel()
        held_at = await held_up(burst)
        assert slow.ended is None
        reading_too = asyncio.create_task(drain(slow))
        await until(lambda: burst.read > held_at)  # it was waited for
        for task in (reading, reading_too, running):
            task.cancel()
        await asyncio.wait([reading, reading_too, running])


async def drain(subscriber: Subscriber) -> None:
    while await subscriber.next_piece():
        pass


async def held_up(burst: BurstOfPages) -> int:
    """Waits until no further page is read; returns how many were."""
    before = -1
    while burst.read != before:
        before = burst.read
        await asyncio.sleep(0.05)
    return before
