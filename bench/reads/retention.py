"""Measures queries and batches while a fifth of the stored events is deleted, and what becomes of their space."""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from statistics import median, quantiles

import asyncpg
import msgspec

from bench.projecting.drain import in_database
from bench.reads.growth import BEGIN, OPERATIONS, WHOLE, WRITING, Stored, timed
from bench.reads.growth_fill import PER_SECOND, PER_USER, database_of, drop, fill, fill_one
from bench.result import Result, absolute, compared
from bench.stage import Stage
from projector.privacy.retention import Forgetting, declare
from projector.privacy.retention_keeper import REST
from query_side.app import SESSION
from read_model.names import GENERATION

EVENTS = 10_000_000
SHARE = 0.2  # of them, the oldest, that are deleted, in whole hours
READS, BATCHES = 100, 2  # a second; a batch has 1,000 events
READERS = 4  # connections
SECONDS = 30.0  # of load before anything is deleted
KEPT_DAYS = 1
PER_HOUR = PER_SECOND * 3_600  # events
TABLES = f"SELECT relname FROM pg_class WHERE relnamespace = '{GENERATION}'::regnamespace AND relkind = 'r'"


class Load(msgspec.Struct):
    """How long reads and batches took, seconds."""

    reads: list[float] = msgspec.field(default_factory=list)
    batches: list[float] = msgspec.field(default_factory=list)

    def p99(self) -> float:
        """Returns the p99 of the reads in ms."""
        return quantiles(self.reads, n=100)[98] * 1000


def retention(stage: Stage) -> list[Result]:
    """Deletes 2 of 10 million events under load (--events): p99 of queries, and the space that is used again."""
    events = max(stage.sizes or (EVENTS,))
    fill(stage, [events])
    try:
        return asyncio.run(measured(stage, events))
    finally:
        asyncio.run(drop(stage, events))


async def measured(stage: Stage, events: int) -> list[Result]:
    """Measures one database."""
    url = in_database(stage.stack.admin_url, database_of(events))
    old = math.ceil(events * SHARE / PER_HOUR) * PER_HOUR
    before = await size(url)
    async with database(url, events) as (one, deleting):
        await load_for(one, old, 5.0)  # fills caches and plans
        without = await load_for(one, old, SECONDS)
        beside, rate = await deleted_under_load(one, deleting, old)
    stage.say(f"p99 {without.p99():.1f} ms without, {beside.p99():.1f} ms beside; {rate:,.0f} events/s deleted")
    return [
        compared("retention_p99_of_queries", "ms", [beside.p99()], "without deleting", [without.p99()], ("<=", 2)),
        compared(
            "retention_batch",
            "ms",
            [median(beside.batches) * 1000],
            "without deleting",
            [median(without.batches) * 1000],
        ),
        absolute("retention_deleted", "events/s", [rate]),
        await space(stage, url, events, old, before),
    ]


@asynccontextmanager
async def database(url: str, events: int) -> AsyncIterator[tuple[Stored, asyncpg.Connection]]:
    """Connects readers, a writer, and one that deletes."""
    pool = await asyncpg.create_pool(url, min_size=READERS, max_size=READERS, server_settings=SESSION)
    writing, deleting = await asyncpg.connect(url, server_settings=WRITING), await asyncpg.connect(url)
    try:
        yield await Stored(pool, writing, events, events // PER_USER).begin(), deleting
    finally:
        for each in (writing, deleting):
            await each.close()
        await pool.close()


async def deleted_under_load(one: Stored, connection: asyncpg.Connection, old: int) -> tuple[Load, float]:
    """Deletes the oldest events as a projector does, beside the load. Returns the load, and events deleted a second."""
    await declare(connection, KEPT_DAYS, None)
    as_of = BEGIN + timedelta(hours=old / PER_HOUR, days=KEPT_DAYS)
    forgetting = Forgetting(connection, GENERATION, as_of, rest=REST)
    ended = asyncio.Event()
    load = asyncio.create_task(under_load(one, old, ended))
    began = time.perf_counter()
    try:
        await forgetting.all_tenants()
    finally:
        ended.set()
    return await load, forgetting.rows["processed_events"] / (time.perf_counter() - began)


async def load_for(one: Stored, least: int, seconds: float) -> Load:
    """Reads and writes for so long."""
    ended = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, ended.set)
    return await under_load(one, least, ended)


async def under_load(one: Stored, least: int, ended: asyncio.Event) -> Load:
    """Reads and writes at an even pace until the event is set. A read that must wait counts from when it was due."""
    found = Load()

    async def read(due: float) -> None:
        operation = timed(getattr(one, random.choice(OPERATIONS)))
        await operation(least)
        found.reads.append(time.perf_counter() - due)

    async def write() -> None:
        while not ended.is_set():
            found.batches.append(await one.batch(least))
            await asyncio.sleep(1 / BATCHES)

    async with asyncio.TaskGroup() as running:
        running.create_task(write())
        due = time.perf_counter()
        while not ended.is_set():
            due += 1 / READS
            await asyncio.sleep(due - time.perf_counter())
            running.create_task(read(due))
    return found


async def space(stage: Stage, url: str, events: int, old: int, before: int) -> Result:
    """Vacuums as autovacuum does, stores as many new events as were deleted, and returns by how much the files grew."""
    connection = await asyncpg.connect(url)
    try:
        for row in await connection.fetch(TABLES):
            await connection.execute(f"VACUUM {GENERATION}.{row['relname']}", timeout=3_600)
    finally:
        await connection.close()
    vacuumed = await size(url)
    await fill_one(stage, url, 2 * events, 2 * events + old, users=events)
    after, needed = await size(url), before * old / events
    stage.say(
        f"{before / 2**20:,.0f} MiB at first, {vacuumed / 2**20:,.0f} after VACUUM, "
        f"{after / 2**20:,.0f} with {old:,} new events"
    )
    grown, deleted = (after - vacuumed) / 2**20, needed / 2**20
    return compared("retention_disk_of_new_events", "MiB", [grown], "what as many took", [deleted], ("<=", 0.2))


async def size(url: str) -> int:
    """Returns the bytes of all tables and indexes of the generation."""
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval(WHOLE))
    finally:
        await connection.close()
