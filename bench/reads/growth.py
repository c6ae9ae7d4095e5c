"""Measures how the cost of each operation grows with the number of stored events, and what an event takes on disk.

The databases are measured in turn, so that a busy machine is busy for all of them. Reads go to the newest events, which
are as many at each size: what is compared is the size of tables and indexes, not of what the memory can hold. Reads of
events of any age are measured beside, without a goal.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from statistics import median
from uuid import UUID

import asyncpg
import uuid_utils.compat

from bench.projecting.drain import in_database
from bench.reads.growth_fill import PARTITIONS, PER_SECOND, PER_USER, TOPIC, database_of, fill
from bench.result import Result, absolute, compared
from bench.stage import Stage
from contracts.event import UserEvent
from contracts.types import read_catalogue
from contracts.versions import encode_event
from projector.projections.projection import PLAN_SETTINGS
from projector.writing.commit import Advance, Batch, Committed, GenerationWriter
from projector.writing.rows import EventRow
from query_side.app import SESSION
from query_side.events.filters import EventFilter
from query_side.events.pages import fetch_page
from query_side.events.queries import get_event_by_id
from query_side.feed.event_status import EVENT
from query_side.feed.pages import read_page
from query_side.log_positions.positions import PartitionProgress, ReaderPosition
from query_side.log_positions.served_history import UNTAGGED
from read_model.names import GENERATION

SIZES = (1_000_000, 5_000_000, 20_000_000)
NEWEST = 200_000  # events that the reads with a goal go to
BATCH = 1_000
ROUNDS, READS, BATCHES = 16, 40, 4  # rounds over all databases; of each operation in one round
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
GOAL = 1.15
WRITING = PLAN_SETTINGS | {"synchronous_commit": "off"}  # how long a flush takes has nothing to do with what is stored
OPERATIONS = ("page_by_user", "page_by_time", "feed_page", "lookup", "status")

SIZES_ON_DISK = f"""
SELECT c.relname AS name, pg_relation_size(c.oid) AS bytes FROM pg_class AS c
WHERE c.oid = '{GENERATION}.processed_events'::regclass
   OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = '{GENERATION}.processed_events'::regclass)
ORDER BY 2 DESC
"""
WHOLE = f"""
SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
WHERE relnamespace = '{GENERATION}'::regnamespace AND relkind = 'r'
"""

FLUSH_STATISTICS = "SELECT pg_stat_force_next_flush()"
PAGES = """
SELECT coalesce(sum(hits + reads), 0)::bigint FROM pg_stat_get_backend_io(pg_backend_pid()) WHERE object = 'relation'
"""


def growth(stage: Stage) -> list[Result]:
    """Cost of a batch and of each read, and bytes per event, at 1, 5 and 20 million stored events (--events)."""
    sizes = sorted(stage.sizes or SIZES)
    fill(stage, sizes)
    return asyncio.run(measured(stage, sizes))


class Stored:
    """One database, and the operations on it."""

    def __init__(self, pool: asyncpg.Pool, writing: asyncpg.Connection, events: int, users: int) -> None:
        """`users`: those that pages are read of: they have a page of events in each of the databases."""
        self.pool, self.events, self._users = pool, events, max(1, users)
        self._writing = writing
        self._writer = GenerationWriter(GENERATION, read_catalogue())
        self._next = 0

    async def begin(self) -> "Stored":
        """Reads where the first partition stands."""
        self._next = await self.pool.fetchval(f"SELECT next_offset FROM {GENERATION}.checkpoints WHERE partition = 0")
        return self

    async def batch(self, _least: int) -> float:
        """Commits one batch of new events, of users anywhere. Returns the seconds that the commit took."""
        rows = [self._new_row(number) for number in range(BATCH)]
        advance = Advance(TOPIC, 0, 1, self._next, self._next + BATCH)
        began = time.perf_counter()
        outcome = await self._writer.commit(self._writing, Batch(rows, [advance]))
        took = time.perf_counter() - began
        assert isinstance(outcome, Committed), outcome
        self._next += BATCH
        return took

    def _new_row(self, number: int) -> EventRow:
        user = f"user-{random.randrange(max(1, self.events // PER_USER))}"
        kind = random.choice(("LOGIN", "PRODUCT_VIEW", "PRODUCT_VIEW", "PRODUCT_VIEW", "LOGOUT"))
        payload = {"productId": f"p-{number % 997}", "referrer": 'https://example.com/?q="a"', "ip": "203.0.113.7"}
        event = UserEvent(uuid_utils.compat.uuid7(), user, kind, datetime.now(UTC), payload)
        rendered = encode_event(event)
        payload_json = rendered[rendered.index(b',"payload":') + 11 : -1]
        return EventRow(event, TOPIC, 0, self._next + number, round(time.time() * 1000), rendered, payload_json)

    async def pages(self) -> int:
        """Returns how many pages of tables and indexes the sessions have touched so far."""
        found = 0
        async with self.pool.acquire() as reading:
            for connection in (reading, self._writing):
                await connection.execute(FLUSH_STATISTICS)
                found += await connection.fetchval(PAGES)
        return found

    async def page_by_user(self, _least: int) -> None:
        """Reads 100 events of one user."""
        wanted = EventFilter(user_id=f"user-{random.randrange(self._users)}")
        async with self.pool.acquire() as connection:
            await fetch_page(connection, "default", wanted, None, 100)

    async def page_by_time(self, least: int) -> None:
        """Reads 100 events from a moment on."""
        since = BEGIN + timedelta(seconds=random.randrange(least, self.events - 100) / PER_SECOND)
        async with self.pool.acquire() as connection:
            await fetch_page(connection, "default", EventFilter(since=since), None, 100)

    async def feed_page(self, least: int) -> None:
        """Reads 100 entries of the feed from a cursor on."""
        offset = random.randrange(least, self.events - 100) // PARTITIONS
        at = {partition: PartitionProgress(offset) for partition in range(PARTITIONS)}
        await read_page(self.pool, "default", TOPIC, ReaderPosition(at, UNTAGGED), 100)

    async def lookup(self, least: int) -> None:
        """Reads one event by its id."""
        found = await get_event_by_id(self.pool, "default", id_of(random.randrange(least, self.events)))
        assert found is not None

    async def status(self, least: int) -> None:
        """Reads the status of one event."""
        assert await self.pool.fetchrow(EVENT, "default", id_of(random.randrange(least, self.events))) is not None


def id_of(number: int) -> UUID:
    """Returns the id of event `number`."""
    milliseconds = (round(BEGIN.timestamp() * PER_SECOND) + number) * 1000 // PER_SECOND
    return UUID(int=milliseconds << 80 | 7 << 76 | 8 << 60 | number)


async def measured(stage: Stage, sizes: list[int]) -> list[Result]:
    """Measures every operation in every database, in turn."""
    urls = [in_database(stage.stack.admin_url, database_of(events)) for events in sizes]
    pools = [await asyncpg.create_pool(url, min_size=1, max_size=1, server_settings=SESSION) for url in urls]
    writing = [await asyncpg.connect(url, server_settings=WRITING) for url in urls]
    try:
        found = zip(pools, writing, sizes, strict=True)
        stored = [await Stored(*each, sizes[0] // PER_USER).begin() for each in found]
        results = await _bytes(stage, stored[-1])
        pages: dict[tuple[str, int], list[float]] = {}
        took: dict[tuple[str, int], list[float]] = {}
        for round_number, (name, where, one) in product(range(ROUNDS), _kinds(stored)):
            count = BATCHES if name == "batch" else READS
            least = 0 if where == "anywhere" else one.events - min(NEWEST, one.events)
            operation = one.batch if name == "batch" else timed(getattr(one, name))
            before = await one.pages()
            seconds = [await operation(least) for _ in range(count)]
            pages.setdefault((f"pages_of_{name}_{where}", one.events), []).append((await one.pages() - before) / count)
            if round_number:  # the first fills caches and plans
                took.setdefault((f"{name}_{where}", one.events), []).append(quartile(seconds) * 1000)
        return results + _compared(stage, took, sizes, "ms") + _compared(stage, pages, sizes, "pages")
    finally:
        for pool, connection in zip(pools, writing, strict=True):
            await pool.close()
            await connection.close()


def _kinds(stored: list[Stored]) -> Iterator[tuple[str, str, Stored]]:
    for name, where in [("batch", "newest"), *product(OPERATIONS, ("newest", "anywhere"))]:
        for one in stored:
            yield name, where, one


def quartile(seconds: list[float]) -> float:
    """Returns the time that a quarter of them did not exceed: what else the machine did makes some of them longer."""
    return sorted(seconds)[(len(seconds) - 1) // 4]


def timed(operation: Callable[[int], Awaitable[None]]) -> Callable[[int], Awaitable[float]]:
    """Makes an operation return the seconds that it took."""

    async def seconds(least: int) -> float:
        began = time.perf_counter()
        await operation(least)
        return time.perf_counter() - began

    return seconds


def _compared(stage: Stage, took: dict[tuple[str, int], list[float]], sizes: list[int], unit: str) -> list[Result]:
    results = []
    small, large = sizes[0], sizes[-1]
    for name in dict.fromkeys(name for name, _ in took):
        stage.say(f"{name}: " + ", ".join(f"{median(took[name, size]):.3f} {unit} at {size:,}" for size in sizes))
        goal = None if unit == "pages" or name.endswith("anywhere") else ("<=", GOAL)
        results.append(
            compared(f"growth_{name}", unit, took[name, large], f"at {small:,} events", took[name, small], goal)  # type: ignore[arg-type]
        )
    return results


async def _bytes(stage: Stage, one: Stored) -> list[Result]:
    parts = await one.pool.fetch(SIZES_ON_DISK)
    stage.say(", ".join(f"{row['name']} {row['bytes'] / one.events:.0f}" for row in parts) + " bytes per event")
    table = sum(row["bytes"] for row in parts if row["name"] == "processed_events") / one.events
    whole = await one.pool.fetchval(WHOLE) / one.events
    indexes = sum(row["bytes"] for row in parts) / one.events - table
    return [
        absolute("growth_bytes_of_table", "bytes/event", [table]),
        absolute("growth_bytes_of_indexes", "bytes/event", [indexes]),
        absolute("growth_bytes_with_projections", "bytes/event", [whole]),
    ]
