"""Draining a history into PostgreSQL, beside a bare COPY of the same rows into the same table.

A race starts when everybody stands at the line: the checkpoints table is locked while the projectors start, join the
group and ask for their partitions. The clock runs from the release of that lock to the commit of the last row, as the
checkpoints show it. So it holds claim, seek, first fetch, decoding and every transaction, but no start of a process.
"""

import asyncio
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient

from bench.bare_copy import BareCopy, Copied
from bench.history import Filled, History
from bench.result import Result, compared
from bench.stage import Stage, StageError
from read_model.names import GENERATION

EVENTS = 300_000
PARTITIONS = 6
POLL = 0.005  # seconds between looks at the checkpoints
READY_WITHIN = 240.0  # seconds
DRAINED_WITHIN = 1_200.0  # seconds

UNCLAIMED = f"SELECT count(*) FROM {GENERATION}.checkpoints WHERE topic = $1 AND epoch = 0"
PROGRESS = f"SELECT coalesce(sum(next_offset), 0)::bigint FROM {GENERATION}.checkpoints WHERE topic = $1"
STORED = f"SELECT count(*) FROM {GENERATION}.processed_events"
WAITING = f"SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = '{GENERATION}.checkpoints'::regclass"
LINE_UP = f"""
INSERT INTO {GENERATION}.checkpoints (topic, partition, next_offset, epoch, owner)
SELECT $1, partition, 0, 0, '' FROM generate_series(0, $2::int - 1) AS partition
"""


def drain(stage: Stage) -> list[Result]:
    """Rows/s of one and of two projector processes, in turn with bare COPY on one and on two connections."""
    topic = stage.topic("bench-drain", PARTITIONS)
    filled = stage.work("bench.history", History(topic, EVENTS), Filled)
    stage.say(f"wrote {filled.count:,} events to Kafka at {filled.count / filled.seconds:,.0f} a second")
    contestants: dict[str, Callable[[int], float]] = {
        "one projector": lambda run: race(stage, topic, 1, run),
        "one with all projections": lambda run: race(stage, topic, 1, run, EVERYTHING),
        "COPY on one connection": lambda run: bare_copy(stage, topic, 1, run),
        "two projectors": lambda run: race(stage, topic, 2, run),
        "two with all projections": lambda run: race(stage, topic, 2, run, EVERYTHING),
        "COPY on two connections": lambda run: bare_copy(stage, topic, 2, run),
        "COPY on one that does not wait for the disk": lambda run: bare_copy(stage, topic, 1, run, durable=False),
    }
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for run in range(stage.runs):
        for name, contestant in contestants.items():
            rates[name].append(contestant(run))
        told = ", ".join(f"{name} {found[-1]:,.0f}" for name, found in rates.items())
        stage.say(f"drain, run {run + 1}/{stage.runs}: {told} rows/s")
    one, one_all, copy_1, two, two_all, copy_2, copy_async = rates.values()
    bare_1, bare_2 = "bare COPY, 1 connection", "bare COPY, 2 connections"
    return [
        compared("projector_drain", "rows/s", one, bare_1, copy_1, (">=", 0.35)),
        compared("projector_drain_vs_2", "rows/s", one, bare_2, copy_2, (">=", 0.4)),
        compared("projector_drain_2_processes_vs_2", "rows/s", two, bare_2, copy_2, (">=", 0.6)),
        compared("projector_drain_all_vs_2", "events/s", one_all, bare_2, copy_2, (">=", 0.2)),
        compared("projector_drain_all_2_processes_vs_2", "events/s", two_all, bare_2, copy_2, (">=", 0.33)),
        compared("projector_drain_vs_async", "rows/s", one, "bare COPY, synchronous_commit=off", copy_async, None),
    ]


def bare_copy(stage: Stage, topic: str, connections: int, _run: int, *, durable: bool = True) -> float:
    """Rows/s of COPY alone, in a process of its own."""
    url = fresh_database(stage, stage.stack.admin_url)
    copied = stage.work("bench.bare_copy", BareCopy(topic, PARTITIONS, EVENTS, url, connections, durable), Copied)
    return copied.rows / copied.seconds


EVENTS_ONLY, EVERYTHING = ("bench.events_only",), ("footfall", "projector")


def race(
    stage: Stage,
    topic: str,
    processes: int,
    run: int,
    program: tuple[str, ...] = EVENTS_ONLY,
    events: int = EVENTS,
) -> float:
    """Rows/s of that many projector processes, from the release of their partitions to the last commit."""
    admin_url = fresh_database(stage, stage.stack.admin_url)
    environment = {
        "DATABASE_URL": in_database(stage.stack.projector_url, "bench"),
        "KAFKA_TOPIC": topic,
        "KAFKA_GROUP_ID": f"{topic}-{program[0]}-{processes}-{run}",
        "PROJECTOR_PORT": "0",
    }
    with ExitStack() as running:

        def start() -> "list[subprocess.Popen[bytes]]":
            return [
                running.enter_context(stage.process(f"projector-{number}", *program, environment=environment))
                for number in range(processes)
            ]

        seconds = asyncio.run(timed(stage, admin_url, topic, start, environment["KAFKA_GROUP_ID"], events))
    return events / seconds


async def timed(
    stage: Stage,
    admin_url: str,
    topic: str,
    start: "Callable[[], list[subprocess.Popen[bytes]]]",
    group: str,
    events: int,
) -> float:
    """Seconds from the release of the checkpoints to the last commit."""
    gate, watch = await asyncpg.connect(admin_url), await asyncpg.connect(admin_url)
    try:
        await gate.execute(LINE_UP, topic, PARTITIONS)
        async with gate.transaction():
            await gate.execute(f"LOCK TABLE {GENERATION}.checkpoints IN EXCLUSIVE MODE")
            projectors = start()
            await until_lined_up(stage, watch, len(projectors), group)
        # A claim that met the lock tries again a little later; the clock runs from the moment the last one has claimed.
        while await watch.fetchval(UNCLAIMED, topic):  # noqa: ASYNC110 - what is awaited happens in another process
            await asyncio.sleep(POLL)
        started = time.perf_counter()
        while await watch.fetchval(PROGRESS, topic) < events:
            if any(p.poll() is not None for p in projectors) or time.perf_counter() - started > DRAINED_WITHIN:
                raise StageError(f"a projector ended, or {events:,} events took more than {DRAINED_WITHIN:g} s")
            await asyncio.sleep(POLL)
        elapsed = time.perf_counter() - started
        stored = await watch.fetchval(STORED)
    finally:
        await gate.close()
        await watch.close()
    if stored != events:
        raise StageError(f"{stored:,} of {events:,} events are stored")
    return elapsed


async def until_lined_up(stage: Stage, watch: asyncpg.Connection, processes: int, group: str) -> None:
    """Returns when the group is at rest with all members, and each of them waits for the lock."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.stack.kafka_bootstrap)
    await admin.start()
    try:
        async with asyncio.timeout(READY_WITHIN):
            while await watch.fetchval(WAITING) < processes or await stable_members(admin, group) < processes:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise StageError(f"{processes} projectors did not line up; see {stage.directory}") from None
    finally:
        await admin.close()


async def stable_members(admin: AIOKafkaAdminClient, group: str) -> int:
    """How many members the group has, when it is not rebalancing."""
    for response in await admin.describe_consumer_groups([group]):
        for _error, _id, state, _type, _protocol, members, *_ in response.groups:
            return len(members) if state == "Stable" else 0
    return 0


def fresh_database(stage: Stage, admin_url: str) -> str:
    """The owner's URL of database `bench`, new and migrated. Copying files makes PostgreSQL checkpoint before it."""
    asyncio.run(recreate(admin_url))
    return stage.migrated(in_database(admin_url, "bench"))


async def recreate(admin_url: str) -> None:
    """Drops and creates database `bench`."""
    connection = await asyncpg.connect(admin_url)
    try:
        await connection.execute("DROP DATABASE IF EXISTS bench")  # waits some seconds for sessions that are ending
        await connection.execute("CREATE DATABASE bench STRATEGY FILE_COPY")
    finally:
        await connection.close()


def in_database(url: str, database: str) -> str:
    """The same server and role, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))
