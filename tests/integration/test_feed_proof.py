"""Eight pagers and eight streams read while four projectors write, each commit held up at random; a promotion midway.

`FEED_PROOF_EVENTS=200000 pytest tests/integration/test_feed_proof.py` is the long form.
"""

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.conftest import Footfall
from tests.drivers.rebuilding import rebuild
from tests.feeds import Received, page, stream
from tests.patience import FACTOR, PATIENCE, patient
from tests.producing import send, some_records, sql, start_projector

EVENTS = int(os.environ.get("FEED_PROOF_EVENTS", "4000"))
READERS = 8  # of each kind
PROJECTORS = 4
WITHIN = patient(max(100.0, EVENTS / 200))  # seconds that a reader may take
ID = slice(len('{"eventId":"'), len('{"eventId":"') + 36)  # of an event's JSON

DELAY = """
CREATE FUNCTION public.delay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(random() * 0.02); RETURN NULL; END $$
"""
# Deferred: it runs when everything of the transaction is done, right before the commit.
DELAYED = """
CREATE CONSTRAINT TRIGGER delay AFTER UPDATE ON {generation}.checkpoints DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (NEW.next_offset <> OLD.next_offset) EXECUTE FUNCTION public.delay()
"""


@pytest.fixture
def busy(new_footfall: Any) -> Iterator[Footfall]:
    instance: Footfall = new_footfall(partitions=8)
    yield instance
    instance.close()


class Sent:
    """What the producer knows: the position of each event, once Kafka has acknowledged it."""

    def __init__(self, footfall: Footfall) -> None:
        self._footfall = footfall
        self.positions: dict[str, tuple[int, int]] = {}
        self.half = threading.Event()

    def produce(self) -> None:
        asyncio.run(self._produce())

    async def _produce(self) -> None:
        chunk = EVENTS // 20
        while len(self.positions) < EVENTS:
            records = some_records(chunk, 500)
            at = await send(self._footfall.servers.kafka, self._footfall.topic, records)
            ids = [(record.value or b"").decode()[ID] for record in records]
            self.positions.update(zip(ids, at, strict=True))
            if len(self.positions) >= EVENTS // 2:
                self.half.set()


def follow_by_pages(url: str, seed: int) -> list[str]:
    """Reads pages of any size, again and again from where the last one ended, until all is there."""
    chance, found, cursor, deadline = random.Random(seed), list[str](), "beginning", time.monotonic() + WITHIN
    with httpx.Client(base_url=url, timeout=PATIENCE) as client:
        while len(found) < EVENTS:
            assert time.monotonic() < deadline, f"{len(found)} events in {WITHIN:g} s: not all"
            events, cursor, _ = page(client, cursor, chance.choice((7, 100, 1_000)))
            found += [event["eventId"] for event in events]
            if not events:
                position = client.get("/events/feed", params={"since": cursor, "limit": 1})
                assert position.status_code == 200
        events, _, _ = page(client, cursor, 10)
        return found + [event["eventId"] for event in events]


def follow_by_stream(urls: list[str], seed: int) -> list[str]:
    """Follows the stream; every other reader leaves it now and then, and comes back to another process."""
    chance, told = random.Random(seed), Received()
    while len(told.events) < EVENTS:
        enough = min(EVENTS, len(told.events) + (chance.randrange(1, EVENTS // 4) if seed % 2 else EVENTS))
        since = {} if told.last_id else {"since": "beginning"}
        with stream(chance.choice(urls), told, **since) as live:
            live.read_until(has(enough), WITHIN / FACTOR)
    return [data[ID] for _, data in told.events]


def has(count: int) -> Callable[[Received], bool]:
    return lambda told: len(told.events) >= count


def test_eight_pagers_and_eight_streams_skip_nothing_and_repeat_nothing(busy: Footfall) -> None:
    sides = [busy.start("query-side", ready=False) for _ in range(2)]
    projectors = [start_projector(busy) for _ in range(PROJECTORS)]
    rebuild(busy, "start")
    sql(busy.servers, DELAY)
    for generation in ("read_g1", "read_g2"):
        sql(busy.servers, DELAYED.format(generation=generation))
    urls = [side.url for side in sides]
    sent = Sent(busy)
    with ThreadPoolExecutor(2 * READERS + 1) as threads:
        producing = threads.submit(sent.produce)
        pagers = [threads.submit(follow_by_pages, urls[n % 2], n) for n in range(READERS)]
        streams = [threads.submit(follow_by_stream, urls, n) for n in range(READERS)]
        assert sent.half.wait(PATIENCE)
        rebuild(busy, "promote", "--force")
        producing.result(WITHIN)
        read = [found.result(WITHIN) for found in (*pagers, *streams)]
    assert all(projector.popen.poll() is None for projector in projectors)
    expected = sorted(sent.positions)
    for found in read:
        skipped, repeated = len(set(expected) - set(found)), len(found) - len(set(found))
        assert (skipped, repeated) == (0, 0)
        assert sorted(found) == expected
        last: dict[int, int] = {}
        for one in found:
            partition, offset = sent.positions[one]
            assert offset > last.get(partition, -1)  # in the order of the log
            last[partition] = offset
    active = sql(busy.servers, "SELECT name FROM ops.generations WHERE state = 'active'")
    assert active[0]["name"] == "read_g2"
