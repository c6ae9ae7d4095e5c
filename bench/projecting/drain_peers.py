"""Compares one projector with other people's ways from the topic to rows: Debezium's JDBC sink, FastStream in batches.

All drain the same history. A peer's rate counts from its first rows that can be seen to its last, so that neither its
start nor the wait for its group is in it; ours as in `bench.projecting.drain`.
"""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from bench.clients.history import Filled, History
from bench.peers import faststream_subscriber as faststream
from bench.peers.kafka_connect import CONFIGURATION, Worker
from bench.projecting.drain import (
    EVENTS,
    EVENTS_ONLY,
    EVERYTHING,
    PARTITIONS,
    Drained,
    cpu_of,
    drained,
    in_database,
    recreate,
    server_cpu,
)
from bench.result import Result, absolute, compared
from bench.stage import Stage, StageError, end, free_port
from footfall.local.embedded import spawn_child

DATABASE = "bench_peer"
POLL = 0.01  # seconds between two looks at the rows
STILL = 0.5  # seconds without growth, after which the rows are counted
DRAINED_WITHIN = 600.0  # seconds
TABLE = (CONFIGURATION / "activity.sql").read_text()
PLAIN = """
CREATE TABLE activity (
    __connect_topic text, __connect_partition integer, __connect_offset bigint, record bytea,
    PRIMARY KEY (__connect_topic, __connect_partition, __connect_offset)
)
"""
Started = Callable[[], "subprocess.Popen[bytes]"]


def drain_peers(stage: Stage) -> list[Result]:
    """Rows/s and CPU for each event: one projector, Debezium's JDBC sink, FastStream's batch subscriber, in turn."""
    topic = stage.topic("bench-peers", PARTITIONS)
    stage.work("bench.clients.history", History(topic, EVENTS), Filled)
    contestants: dict[str, Callable[[int], Drained]] = {
        "projector": lambda run: drained(stage, topic, 1, run, EVERYTHING),
        "projector_events_only": lambda run: drained(stage, topic, 1, run, EVENTS_ONLY),
        "debezium_sink": lambda _: debezium(stage, topic, TABLE),
        "debezium_sink_bytes_only": lambda _: debezium(stage, topic, PLAIN),
        "faststream_batch": lambda run: batches(stage, topic, run),
    }
    found: dict[str, list[Drained]] = {name: [] for name in contestants}
    for run in range(stage.runs):
        for name, contestant in contestants.items():
            found[name].append(contestant(run))
            last = found[name][-1]
            stage.say(f"{name}, run {run + 1}/{stage.runs}: {rate(last):,.0f} rows/s, {cpu(last):.1f} us an event")
    return [row for name, runs in found.items() for row in rows(name, runs, found["projector"])]


def rate(one: Drained) -> float:
    return one.events / one.seconds


def cpu(one: Drained) -> float:
    return 1e6 * one.cpu_seconds / one.events


def rows(name: str, runs: list[Drained], ours: list[Drained]) -> list[Result]:
    """Three figures of a contestant, beside the projector's."""
    figures: tuple[tuple[str, str, Callable[[Drained], float]], ...] = (
        ("", "rows/s", rate),
        ("_cpu", "us an event", cpu),
        ("_postgresql_cpu", "us an event", lambda one: 1e6 * one.server_cpu_seconds / one.events),
    )
    if runs is ours:
        return [absolute(f"peers_{name}{kind}", unit, [of(one) for one in runs]) for kind, unit, of in figures]
    return [
        compared(f"peers_{name}{kind}", unit, [of(one) for one in runs], "projector", [of(one) for one in ours])
        for kind, unit, of in figures
    ]


def debezium(stage: Stage, topic: str, table: str) -> Drained:
    """The sink of deploy/connect, into a table of its own."""
    url = asyncio.run(made(stage, table))
    directory = stage.directory / f"connect-{time.monotonic_ns()}"
    directory.mkdir()
    worker = Worker(directory, sink_environment(stage, topic, url), renamed(directory))
    return watched(stage, url, "activity", worker.start, worker.log)


def renamed(directory: Path) -> Path:
    """The connector with a name of its own: its group begins at the first record."""
    sink = json.loads((CONFIGURATION / "sink.json").read_text())
    made = directory / "sink.json"
    made.write_text(json.dumps({**sink, "name": directory.name}))
    return made


def sink_environment(stage: Stage, topic: str, url: str) -> Mapping[str, str]:
    where = urlsplit(url)
    return {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": stage.stack.kafka_bootstrap,
        "KAFKA_TOPIC": topic,
        "CONNECT_PORT": str(free_port()),
        "SINK_URL": f"jdbc:postgresql://{where.hostname}:{where.port}{where.path}",
        "SINK_USER": where.username or "",
        "SINK_PASSWORD": where.password or "",
    }


def batches(stage: Stage, topic: str, run: int) -> Drained:
    """FastStream's subscriber, in an environment of its own."""
    python, log = faststream.python(), stage.directory / f"faststream-{run}.log"
    url = asyncio.run(made(stage, faststream.TABLE.read_text()))
    environment = {"KAFKA_TOPIC": topic, "KAFKA_GROUP_ID": f"{topic}-faststream-{run}", "DATABASE_URL": url}

    def start() -> "subprocess.Popen[bytes]":
        command = [str(python), str(faststream.PROGRAM)]
        given = stage.environment(environment)
        return spawn_child(command, death_signal=signal.SIGKILL, env=given, log_path=log)

    return watched(stage, url, "events", start, log)


async def made(stage: Stage, table: str) -> str:
    """A new database with the table; returns its owner's URL."""
    await recreate(stage.stack.admin_url, DATABASE)
    url = in_database(stage.stack.admin_url, DATABASE)
    connection = await asyncpg.connect(url)
    await connection.execute(table)
    await connection.close()
    return url


@contextmanager
def running(start: Started) -> "Iterator[subprocess.Popen[bytes]]":
    process = start()
    try:
        yield process
    finally:
        end(process)


def watched(stage: Stage, url: str, table: str, start: Started, log: Path) -> Drained:
    """Starts a peer and measures it from its first rows to its last."""
    with running(start) as process:
        return asyncio.run(timed(stage, url, table, process, log))


async def timed(stage: Stage, url: str, table: str, process: "subprocess.Popen[bytes]", log: Path) -> Drained:
    watch = await asyncpg.connect(url)
    began = time.monotonic()
    try:
        while not (first := await stored(watch, table)):
            check(process, began, log)
            await asyncio.sleep(POLL)
        clock, cpu_before, server_before = time.perf_counter(), cpu_of([process]), server_cpu(stage)
        while (last := await still(watch, table)) and await stored(watch, table) < EVENTS:
            check(process, began, log)
        return Drained(last - clock, cpu_of([process]) - cpu_before, server_cpu(stage) - server_before, EVENTS - first)
    finally:
        await watch.close()


def check(process: "subprocess.Popen[bytes]", began: float, log: Path) -> None:
    """Raises StageError if the peer ended, or has taken too long."""
    if process.poll() is not None or time.monotonic() - began > DRAINED_WITHIN:
        raise StageError(f"the peer did not store {EVENTS:,} events:\n{log.read_text(errors='replace')[-2000:]}")


async def stored(watch: asyncpg.Connection, table: str) -> int:
    return int(await watch.fetchval(f"SELECT count(*) FROM {table}"))


async def still(watch: asyncpg.Connection, table: str) -> float:
    """Waits until the table does not grow any more; returns when it last did. Counting rows meanwhile would cost."""
    size, changed = -1, time.perf_counter()
    while time.perf_counter() - changed < STILL:
        found = await watch.fetchval("SELECT pg_relation_size($1::text::regclass)", table)
        if found != size:
            size, changed = found, time.perf_counter()
        await asyncio.sleep(POLL)
    return changed
