"""How long a partition stands still while a projector comes, leaves or is restarted."""

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import asyncpg
import msgspec

from bench.clients.background import Background
from bench.projecting.drain import EVERYTHING, fresh_database, in_database
from bench.result import Result, absolute
from bench.stage import Stage, StageError, end

PARTITIONS = 10
PER_SECOND = 500  # events
SETTLE = 8.0  # seconds beside each change, from when its first partition has moved
CHANGES = 3  # how often the third comes and leaves
READY_WITHIN = 120.0  # seconds
# By partition, the longest time between two commits since $1, in seconds; what has not ended counts until now.
LONGEST = f"""
WITH moments AS (
    SELECT kafka_partition, projected_at AS at FROM read_g1.processed_events WHERE projected_at > $1
    UNION SELECT partition, at FROM generate_series(0, {PARTITIONS - 1}) AS partition,
    unnest(ARRAY[$1, clock_timestamp()]) AS at
)
SELECT kafka_partition, extract(epoch FROM max(gap))::float8 FROM (
    SELECT kafka_partition, at - lag(at) OVER (PARTITION BY kafka_partition ORDER BY at) AS gap FROM moments
) AS gaps GROUP BY kafka_partition
"""
OWNERS = "SELECT partition, owner FROM read_g1.checkpoints"


def rebalance(stage: Stage) -> list[Result]:
    """The longest standstill of partitions: nothing happens, a third projector comes, leaves, a named one restarts."""
    found: dict[str, list[float]] = {}
    for run in range(stage.runs):
        for name, seconds in one_run(stage, run):
            found.setdefault(name, []).append(seconds)
            stage.say(f"rebalance, run {run + 1}/{stage.runs}: {name}: {seconds:.2f} s")
    usual = [absolute(f"standstill_{name}", "s", values) for name, values in found.items()]
    return [*usual, *(absolute(f"standstill_{name}_slowest", "s", [max(values)]) for name, values in found.items())]


def one_run(stage: Stage, run: int) -> Iterator[tuple[str, float]]:
    """Yields the longest standstill around each change, of partitions that were moved and of those that were not."""
    admin_url = fresh_database(stage, stage.stack.admin_url)
    topic = stage.topic(f"bench-rebalance-{run}", PARTITIONS)

    def start(name: str) -> "subprocess.Popen[bytes]":
        environment = {
            "DATABASE_URL": in_database(stage.stack.projector_url, "bench"),
            "KAFKA_TOPIC": topic,
            "KAFKA_GROUP_ID": topic,
            "KAFKA_GROUP_INSTANCE_ID": name if name.startswith("named") else "",
            "PROJECTOR_PORT": "0",
        }
        return running.enter_context(stage.process(name, *EVERYTHING, environment=environment))

    def beside(name: str, change: Callable[[], object] = nothing) -> Iterator[tuple[str, float]]:
        kept, moved = asyncio.run(standstill(admin_url, change))
        yield from ((f"{name}_{what}", max(found)) for what, found in (("kept", kept), ("moved", moved)) if found)

    with ExitStack() as running:
        named, _other = start("named-1"), start("named-2")
        task = msgspec.json.encode(Background(topic, PER_SECOND)).decode()
        running.enter_context(stage.process("background", "bench.clients.background", task))
        asyncio.run(until_all_move(admin_url))
        yield from beside("usual")
        for _ in range(CHANGES):
            third: list[subprocess.Popen[bytes]] = []
            yield from beside("one_comes", lambda: third.append(start("third")))  # noqa: B023 - called at once
            yield from beside("one_leaves", third[0].terminate)

        def restart() -> None:
            end(named)
            start("named-1")

        yield from beside("one_restarts_under_its_name", restart)


def nothing() -> None:
    """The change that is none."""


async def standstill(admin_url: str, change: Callable[[], object]) -> tuple[list[float], list[float]]:
    """Makes the change, waits until it has moved a partition, and then for `SETTLE`.

    Returns the longest time between two commits meanwhile, in seconds, of each partition that has the same owner
    before and after, and of each that has another.
    """
    connection = await asyncpg.connect(admin_url)
    try:
        before = await told(connection, OWNERS)
        since = await connection.fetchval("SELECT clock_timestamp()")
        change()  # here: a process ends with the thread that started it
        async with asyncio.timeout(READY_WITHIN):
            while change is not nothing and await told(connection, OWNERS) == before:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.1)
        await asyncio.sleep(SETTLE)
        longest, after = await told(connection, LONGEST, since), await told(connection, OWNERS)
    finally:
        await connection.close()
    kept = {partition for partition in longest if before[partition] == after[partition]}
    return [longest[each] for each in kept], [longest[each] for each in longest.keys() - kept]


async def told(connection: asyncpg.Connection, query: str, *arguments: object) -> dict[int, Any]:
    """Returns what a query says of each partition."""
    return {row[0]: row[1] for row in await connection.fetch(query, *arguments)}


async def until_all_move(admin_url: str) -> None:
    """Returns once every partition has rows."""
    connection = await asyncpg.connect(admin_url)
    moving = "SELECT count(DISTINCT kafka_partition) FROM read_g1.processed_events"
    deadline = time.monotonic() + READY_WITHIN
    try:
        while await connection.fetchval(moving) < PARTITIONS:
            if time.monotonic() > deadline:
                raise StageError(f"not every partition is projected after {READY_WITHIN:g} s")
            await asyncio.sleep(0.1)
    finally:
        await connection.close()
