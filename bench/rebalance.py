"""How long a partition stands still while a projector comes, leaves or is restarted."""

import asyncio
import subprocess
import time
from contextlib import ExitStack

import asyncpg
import msgspec

from bench.background import Background
from bench.drain import EVERYTHING, fresh_database, in_database
from bench.result import Result, absolute
from bench.stage import Stage, StageError, end

PARTITIONS = 10
PER_SECOND = 500  # events
SETTLE = 20.0  # seconds beside each change: its effect ends well before
READY_WITHIN = 120.0  # seconds
# The longest time between two commits of one partition since $1, in seconds; what has not ended counts until now.
LONGEST = f"""
WITH moments AS (
    SELECT kafka_partition, projected_at AS at FROM read_g1.processed_events WHERE projected_at > $1
    UNION SELECT partition, at FROM generate_series(0, {PARTITIONS - 1}) AS partition,
    unnest(ARRAY[$1, clock_timestamp()]) AS at
)
SELECT extract(epoch FROM max(gap))::float8 FROM (
    SELECT at - lag(at) OVER (PARTITION BY kafka_partition ORDER BY at) AS gap FROM moments
) AS gaps
"""


def rebalance(stage: Stage) -> list[Result]:
    """The longest standstill of a partition: nothing happens, a third projector comes, leaves, a named one restarts."""
    found: dict[str, list[float]] = {}
    for run in range(stage.runs):
        for name, seconds in one_run(stage, run).items():
            found.setdefault(name, []).append(seconds)
            stage.say(f"rebalance, run {run + 1}/{stage.runs}: {name}: {seconds:.2f} s")
    return [absolute(f"standstill_{name}", "s", values) for name, values in found.items()]


def one_run(stage: Stage, run: int) -> dict[str, float]:
    """Returns the longest standstill around each change."""
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

    with ExitStack() as running:
        named, _other = start("named-1"), start("named-2")
        task = msgspec.json.encode(Background(topic, PER_SECOND)).decode()
        running.enter_context(stage.process("background", "bench.background", task))
        asyncio.run(until_all_move(admin_url))
        found = {"usual": standstill(admin_url)}
        third = start("third")
        found["one_comes"] = standstill(admin_url)
        third.terminate()
        found["one_leaves"] = standstill(admin_url)
        end(named)
        start("named-1")
        found["one_restarts_under_its_name"] = standstill(admin_url)
    return found


def standstill(admin_url: str) -> float:
    """Waits for `SETTLE`; returns the longest time between two commits of a partition meanwhile, in seconds."""
    return asyncio.run(_standstill(admin_url))


async def _standstill(admin_url: str) -> float:
    connection = await asyncpg.connect(admin_url)
    try:
        since = await connection.fetchval("SELECT clock_timestamp()")
        await asyncio.sleep(SETTLE)
        return float(await connection.fetchval(LONGEST, since))
    finally:
        await connection.close()


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
