"""How long projectors that were caught up need for a burst, on ten partitions."""

import asyncio
import os
import time
from contextlib import ExitStack

import asyncpg

from bench.drain import EVERYTHING, POLL, PROGRESS, READY_WITHIN, bare_copy, fresh_database, in_database
from bench.history import Filled, History
from bench.result import Result, absolute, compared
from bench.stage import Stage, StageError
from read_model.names import GENERATION

PARTITIONS = 10
PROCESSES = (1, 2, 4)
EVENTS, LONG_EVENTS = 100_000, 500_000
CAUGHT_UP_WITHIN = 1_200.0  # seconds
BARE = "bare COPY of its rows, 1 connection"
CLAIMED = (
    f"SELECT count(*) = {PARTITIONS} AND count(DISTINCT owner) = $2 FROM {GENERATION}.checkpoints WHERE topic = $1"
)


def burst(stage: Stage) -> list[Result]:
    """Seconds until 1, 2 and 4 projectors have caught up with a burst of 100,000 events (FOOTFALL_LONG: 500,000)."""
    events = LONG_EVENTS if os.environ.get("FOOTFALL_LONG") else EVENTS
    took: dict[int, list[float]] = {processes: [] for processes in PROCESSES}
    behind: dict[int, list[float]] = {processes: [] for processes in PROCESSES}
    bare, topic = [], ""
    for run in range(stage.runs):
        for processes in PROCESSES:
            topic = stage.topic(f"bench-burst-{processes}-{run}", PARTITIONS)
            seconds, lag = one_burst(stage, topic, processes, events)
            took[processes].append(seconds)
            behind[processes].append(lag)
            stage.say(f"burst, run {run + 1}/{stage.runs}, {processes} projectors: {seconds:.1f} s, lag {lag:,}")
        bare.append(events / bare_copy(stage, topic, 1, run, partitions=PARTITIONS, events=events))
    return [
        *(compared(f"burst_gone_with_{n}", "s", took[n], BARE, bare) for n in PROCESSES),
        *(absolute(f"burst_lag_with_{n}", "events", behind[n]) for n in PROCESSES),
    ]


def one_burst(stage: Stage, topic: str, processes: int, events: int) -> tuple[float, int]:
    """Returns the seconds from the burst's first record to its last row, and the lag when its last was written."""
    admin_url = fresh_database(stage, stage.stack.admin_url)
    environment = {
        "DATABASE_URL": in_database(stage.stack.projector_url, "bench"),
        "KAFKA_TOPIC": topic,
        "KAFKA_GROUP_ID": topic,
        "PROJECTOR_PORT": "0",
    }
    with ExitStack() as running:
        for number in range(processes):
            running.enter_context(stage.process(f"burst-{number}", *EVERYTHING, environment=environment))
        return asyncio.run(timed(stage, admin_url, topic, processes, events))


async def timed(stage: Stage, admin_url: str, topic: str, processes: int, events: int) -> tuple[float, int]:
    """Writes the burst once every projector has partitions, and waits until its last row is stored."""
    watch = await asyncpg.connect(admin_url)
    try:
        async with asyncio.timeout(READY_WITHIN):
            while not await watch.fetchval(CLAIMED, topic, processes):  # noqa: ASYNC110 - nothing tells when
                await asyncio.sleep(0.1)
        filled = await asyncio.to_thread(stage.work, "bench.history", History(topic, events), Filled)
        written = time.perf_counter()
        lag = events - await watch.fetchval(PROGRESS, topic)
        while await watch.fetchval(PROGRESS, topic) < events:
            if time.perf_counter() - written > CAUGHT_UP_WITHIN:
                raise StageError(f"{events:,} events took more than {CAUGHT_UP_WITHIN:g} s")
            await asyncio.sleep(POLL)
    finally:
        await watch.close()
    return filled.seconds + time.perf_counter() - written, lag
