"""Measures the points that the model of `footfall plan` is checked against, on the machine that it runs on.

Two histories are drained with all projections. What the larger one costs more, for each event more, is what an event
costs: starts and migrations cancel out.
"""

import asyncio
from pathlib import Path

import asyncpg
import msgspec
import psutil

from bench.clients.history import Filled, History
from bench.projecting.drain import EVERYTHING, PARTITIONS, drained, in_database
from bench.result import Result, compared
from bench.stage import Stage
from operations.scaling.costs import MEASURED

SMALL, LARGE = 50_000, 250_000  # events
MODEL = "the model of footfall plan"
SIZE = """
SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
WHERE relnamespace = 'read_g1'::regnamespace AND relkind = 'r'
"""


class Spent(msgspec.Struct, frozen=True):
    """What a history took: seconds of CPU, and bytes on disk."""

    projector: float
    postgresql: float
    rows: int
    log: int


def plan_points(stage: Stage) -> list[Result]:
    """CPU of projector and PostgreSQL, and bytes in PostgreSQL and Kafka, for each event; beside the model's."""
    topics = {events: stage.topic(f"bench-plan-{events}", PARTITIONS) for events in (SMALL, LARGE)}
    for events, topic in topics.items():
        stage.work("bench.clients.history", History(topic, events), Filled)
    found = [[_spent(stage, topic, events, run) for events, topic in topics.items()] for run in range(stage.runs)]

    def of_one_event(name: str, factor: float = 1.0) -> list[float]:
        return [factor * (getattr(large, name) - getattr(small, name)) / (LARGE - SMALL) for small, large in found]

    return [
        compared("plan_projector_cpu", "us an event", of_one_event("projector", 1e6), MODEL, [MEASURED.projector_us]),
        compared(
            "plan_postgresql_cpu", "us an event", of_one_event("postgresql", 1e6), MODEL, [MEASURED.postgresql_us]
        ),
        compared("plan_rows", "bytes an event", of_one_event("rows"), MODEL, [MEASURED.row_bytes]),
        compared("plan_log", "bytes an event", of_one_event("log"), MODEL, [MEASURED.log_bytes]),
    ]


def _spent(stage: Stage, topic: str, events: int, run: int) -> Spent:
    before = _cpu_of_postgresql(stage.directory)
    projectors = drained(stage, topic, 1, run, EVERYTHING, events).cpu_seconds
    postgresql = _cpu_of_postgresql(stage.directory) - before
    rows = asyncio.run(_size(in_database(stage.stack.admin_url, "bench")))
    log = sum(file.stat().st_size for file in stage.directory.glob(f"**/{topic}-[0-9]*/*.log"))
    stage.say(f"plan_points, run {run + 1}/{stage.runs}: {events:,} events, {rows / events:,.0f} bytes of rows each")
    return Spent(projectors, postgresql, rows, log)


async def _size(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval(SIZE))
    finally:
        await connection.close()


def _cpu_of_postgresql(directory: Path) -> float:
    """Seconds of CPU of the server that keeps its files below the directory, with those of its ended processes."""
    [pid] = [int(file.read_text().split()[0]) for file in directory.glob("**/postmaster.pid")]
    server = psutil.Process(pid)
    times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
    ended = times[0]
    return float(sum(each.user + each.system for each in times) + ended.children_user + ended.children_system)
