"""Compares draining a history into PostgreSQL with a bare COPY of the same rows into the same table.

The checkpoints table is locked while the projectors start, join the group and ask for their partitions. The time is
measured from the last claim after that lock is released to the commit of the last row, as the checkpoints show it. So
it contains seek, first fetch, decoding and every transaction, but not the start of a process.
"""

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import psutil
from aiokafka.admin import AIOKafkaAdminClient

from bench.clients.history import Filled, History
from bench.references.bare_copy import BareCopy, Copied
from bench.result import Result, compared
from bench.stage import NOTHING, Stage, StageError
from read_model.names import GENERATION

EVENTS = 300_000
PARTITIONS = 6
POLL = 0.005  # seconds between two reads of the checkpoints
READY_WITHIN = 240.0  # seconds for all projectors to wait for the lock
DRAINED_WITHIN = 1_200.0  # seconds for the last commit

UNCLAIMED = f"SELECT count(*) FROM {GENERATION}.checkpoints WHERE topic = $1 AND epoch = 0"
PROGRESS = f"SELECT coalesce(sum(next_offset), 0)::bigint FROM {GENERATION}.checkpoints WHERE topic = $1"
STORED = f"SELECT count(*) FROM {GENERATION}.processed_events"
WAITING = f"SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = '{GENERATION}.checkpoints'::regclass"
FIRST_CHECKPOINTS = f"""
INSERT INTO {GENERATION}.checkpoints (topic, partition, next_offset, epoch, owner)
SELECT $1, partition, 0, 0, '' FROM generate_series(0, $2::int - 1) AS partition
"""


def drain(stage: Stage) -> list[Result]:
    """Rows/s of one and of two projector processes, in turn with bare COPY on one and on two connections."""
    topic = stage.topic("bench-drain", PARTITIONS)
    filled = stage.work("bench.clients.history", History(topic, EVENTS), Filled)
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
        figures = ", ".join(f"{name} {found[-1]:,.0f}" for name, found in rates.items())
        stage.say(f"drain, run {run + 1}/{stage.runs}: {figures} rows/s")
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


def bare_copy(
    stage: Stage,
    topic: str,
    connections: int,
    _run: int,
    *,
    durable: bool = True,
    partitions: int = PARTITIONS,
    events: int = EVENTS,
) -> float:
    """Measures the rows/s of COPY alone, in a separate process."""
    url = fresh_database(stage, stage.stack.admin_url)
    copied = stage.work(
        "bench.references.bare_copy", BareCopy(topic, partitions, events, url, connections, durable), Copied
    )
    return copied.rows / copied.seconds


EVENTS_ONLY, EVERYTHING = ("bench.references.events_only",), ("footfall", "projector")


def race(
    stage: Stage,
    topic: str,
    processes: int,
    run: int,
    program: tuple[str, ...] = EVENTS_ONLY,
    events: int = EVENTS,
    more: Mapping[str, str] = NOTHING,
) -> float:
    """Measures the rows/s of projector processes, see `drained`."""
    return events / drained(stage, topic, processes, run, program, events, more=more).seconds


class Drained(msgspec.Struct, frozen=True):
    """Seconds from the last claim of a partition to the last commit; CPU of projectors and of PostgreSQL; events."""

    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float
    events: int


def drained(  # noqa: PLR0913 - each says what is drained, or by whom
    stage: Stage,
    topic: str,
    processes: int,
    run: int,
    program: tuple[str, ...] = EVENTS_ONLY,
    events: int = EVENTS,
    partitions: int = PARTITIONS,
    *,
    more: Mapping[str, str] = NOTHING,
) -> Drained:
    """Drains a history with projector processes.

    Args:
        stage: The servers.
        topic: The topic with the history.
        processes: How many projectors.
        run: The number of the run, for a consumer group of its own.
        program: The module that runs a projector.
        events: Events in the history.
        partitions: Those of the topic.
        more: Settings of the projectors.
    """
    admin_url = fresh_database(stage, stage.stack.admin_url)
    environment = {
        "DATABASE_URL": in_database(stage.stack.projector_url, "bench"),
        "KAFKA_TOPIC": topic,
        "KAFKA_GROUP_ID": f"{topic}-{program[0]}-{processes}-{run}",
        "PROJECTOR_PORT": "0",
        **more,
    }
    with ExitStack() as running:

        def start() -> "list[subprocess.Popen[bytes]]":
            return [
                running.enter_context(stage.process(f"projector-{number}", *program, environment=environment))
                for number in range(processes)
            ]

        return asyncio.run(timed(stage, admin_url, topic, start, environment["KAFKA_GROUP_ID"], events, partitions))


async def timed(
    stage: Stage,
    admin_url: str,
    topic: str,
    start: "Callable[[], list[subprocess.Popen[bytes]]]",
    group: str,
    events: int,
    partitions: int,
) -> Drained:
    """Measures from the last claim of a partition to the last commit."""
    locker, watch = await asyncpg.connect(admin_url), await asyncpg.connect(admin_url)
    try:
        await locker.execute(FIRST_CHECKPOINTS, topic, partitions)
        async with locker.transaction():
            await locker.execute(f"LOCK TABLE {GENERATION}.checkpoints IN EXCLUSIVE MODE")
            projectors = start()
            await wait_until_all_wait_for_the_lock(stage, watch, len(projectors), group)
        # A claim that met the lock is repeated a little later; the time counts from the last successful claim.
        while await watch.fetchval(UNCLAIMED, topic):  # noqa: ASYNC110 - what is awaited happens in another process
            await asyncio.sleep(POLL)
        started, cpu_before, server_before = time.perf_counter(), cpu_of(projectors), server_cpu(stage)
        while await watch.fetchval(PROGRESS, topic) < events:
            if any(p.poll() is not None for p in projectors) or time.perf_counter() - started > DRAINED_WITHIN:
                raise StageError(f"a projector ended, or {events:,} events took more than {DRAINED_WITHIN:g} s")
            await asyncio.sleep(POLL)
        elapsed, cpu = time.perf_counter() - started, cpu_of(projectors) - cpu_before
        served = server_cpu(stage) - server_before
        stored = await watch.fetchval(STORED)
    finally:
        await locker.close()
        await watch.close()
    if stored != events:
        raise StageError(f"{stored:,} of {events:,} events are stored")
    return Drained(elapsed, cpu, served, events)


def cpu_of(processes: "Iterable[subprocess.Popen[bytes]]") -> float:
    """Returns the seconds of CPU that the processes have used until now, in user and system mode."""
    times = [psutil.Process(process.pid).cpu_times() for process in processes]
    return float(sum(found.user + found.system for found in times))


def server_cpu(stage: Stage) -> float:
    """Returns the seconds of CPU that PostgreSQL has used until now, with those of sessions that ended."""
    server = psutil.Process(stage.stack.postgres_pid)
    ended = server.cpu_times()
    running = [child.cpu_times() for child in server.children(recursive=True)]
    return float(ended.children_user + ended.children_system + sum(one.user + one.system for one in running))


async def wait_until_all_wait_for_the_lock(stage: Stage, watch: asyncpg.Connection, processes: int, group: str) -> None:
    """Returns once the group is stable with all members, and each of them waits for the lock."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.stack.kafka_bootstrap)
    await admin.start()
    try:
        async with asyncio.timeout(READY_WITHIN):
            while await watch.fetchval(WAITING) < processes or await stable_members(admin, group) < processes:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise StageError(f"{processes} projectors did not ask for their partitions; see {stage.directory}") from None
    finally:
        await admin.close()


async def stable_members(admin: AIOKafkaAdminClient, group: str) -> int:
    """Returns the number of the group's members; 0 while it rebalances."""
    for response in await admin.describe_consumer_groups([group]):
        for _error, _id, state, _type, _protocol, members, *_ in response.groups:
            return len(members) if state == "Stable" else 0
    return 0


def fresh_database(stage: Stage, admin_url: str) -> str:
    """Makes and migrates a new database `bench`, and returns its owner's URL.

    The strategy FILE_COPY makes PostgreSQL write a checkpoint first, so that none falls into the measurement.
    """
    asyncio.run(recreate(admin_url))
    return stage.migrated(in_database(admin_url, "bench"))


async def recreate(admin_url: str, database: str = "bench") -> None:
    """Drops and creates a database."""
    connection = await asyncpg.connect(admin_url)
    try:
        # PostgreSQL waits up to 5 s for ending sessions.
        await connection.execute(f"DROP DATABASE IF EXISTS {database}")
        await connection.execute(f"CREATE DATABASE {database} STRATEGY FILE_COPY")
    finally:
        await connection.close()


def in_database(url: str, database: str) -> str:
    """Returns the URL of another database on the same server, for the same role."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))
