"""Measures a projector's memory while it drains a million events, and queries beside a rebuild of them."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import asyncpg
import psutil

from bench.clients.history import Filled, History
from bench.clients.paced import Answered, Paced
from bench.projecting.drain import PARTITIONS, fresh_database, in_database
from bench.result import Result, absolute, compared
from bench.stage import Stage, StageError, free_port
from read_model.names import GENERATION

EVENTS = 1_000_000
DRAINED_WITHIN = 1_800.0  # seconds
SAMPLE = 0.25  # seconds
MIB = 1024 * 1024
POSTS, GETS = 200, 50  # a second
SECONDS = 12.0  # of a measurement; a rebuild of 1,000,000 events takes about 15 s
STORED = f"SELECT coalesce(sum(stored), 0)::bigint FROM {GENERATION}.checkpoints"
BUILDING = "SELECT name FROM ops.generations WHERE state = 'building'"
BUILT = "SELECT coalesce(sum(next_offset), 0)::bigint FROM {}.checkpoints"


def million(stage: Stage) -> list[Result]:
    """Resident memory of a projector draining 1,000,000 events; then GETs beside a rebuild of them, and without."""
    topic = stage.topic("bench-million", PARTITIONS)
    filled = stage.work("bench.clients.history", History(topic, EVENTS), Filled)
    stage.say(f"wrote {filled.count:,} events to Kafka")
    admin_url = fresh_database(stage, stage.stack.admin_url)
    environment = {
        "DATABASE_URL": in_database(stage.stack.projector_url, "bench"),
        "KAFKA_TOPIC": topic,
        "PROJECTOR_PORT": "0",
    }
    with stage.process("million-projector", "footfall", "projector", environment=environment) as projector:
        results = memory(stage, projector, admin_url)
        with serving(stage, topic) as port:
            results += beside_a_rebuild(stage, port, topic, admin_url)
    return results


def memory(stage: Stage, projector: "subprocess.Popen[bytes]", admin_url: str) -> list[Result]:
    """Measures the projector's peak, and compares the second half of the drain with the first."""
    samples = asyncio.run(sampled(projector, admin_url))
    half = len(samples) // 2
    peak, first, second = max(samples) / MIB, max(samples[:half]) / MIB, max(samples[half:]) / MIB
    stage.say(f"projector's memory: {first:.0f} MiB in the first half, {second:.0f} MiB in the second")
    return [
        absolute("projector_memory_draining_1000000", "MiB", [peak], ("<=", 200)),
        compared("projector_memory_second_half", "MiB", [second], "first half", [first], ("<=", 1.1)),
    ]


async def sampled(projector: "subprocess.Popen[bytes]", admin_url: str) -> list[int]:
    """Samples the projector's resident bytes from the first stored event to the last."""
    process, found = psutil.Process(projector.pid), []
    watch = await asyncpg.connect(admin_url)
    started = time.perf_counter()
    try:
        while (stored := await watch.fetchval(STORED)) < EVENTS:
            if projector.poll() is not None or time.perf_counter() - started > DRAINED_WITHIN:
                raise StageError(f"the projector stored {stored:,} of {EVENTS:,} events")
            if stored:
                found.append(process.memory_info().rss)
            await asyncio.sleep(SAMPLE)
    finally:
        await watch.close()
    return found


@contextmanager
def serving(stage: Stage, topic: str) -> Iterator[int]:
    """Runs both sides on the million events during the body; yields their port."""
    port = free_port()
    front = {"DATABASE_URL": in_database(stage.stack.query_url, "bench"), "KAFKA_TOPIC": topic}
    with ExitStack() as running:
        arguments = ("front", "--port", str(port))
        running.enter_context(stage.process("million-front", "footfall", *arguments, port=port, environment=front))
        yield port


def beside_a_rebuild(stage: Stage, port: int, topic: str, admin_url: str) -> list[Result]:
    """Measures GETs beside 200 POST/s, without and with a rebuild. The rebuild is cancelled between runs."""
    without: list[Answered] = []
    beside: list[Answered] = []
    rates: list[float] = []
    for run in range(stage.runs):
        without.append(stage.work("bench.clients.paced", Paced(port, POSTS, GETS, SECONDS, seed=run), Answered))
        operate(stage, topic, admin_url, "start")
        started = time.perf_counter()
        beside.append(stage.work("bench.clients.paced", Paced(port, POSTS, GETS, SECONDS, seed=100 + run), Answered))
        rates.append(asyncio.run(built(admin_url)) / (time.perf_counter() - started))
        operate(stage, topic, admin_url, "cancel")
        stage.say(
            f"GETs beside a rebuild, run {run + 1}/{stage.runs}: p99 {without[-1].p99:.1f} ms without, "
            f"{beside[-1].p99:.1f} ms with, {rates[-1]:,.0f} events/s rebuilt"
        )
    p99, p99_without = [one.p99 for one in beside], [one.p99 for one in without]
    return [
        compared("get_p99_beside_a_rebuild", "ms", p99, "without", p99_without, ("<=", 2)),
        absolute("rebuild_beside_load", "events/s", rates),
        absolute("errors_beside_a_rebuild", "errors", [sum(one.errors for one in beside)], ("==", 0)),
    ]


async def built(admin_url: str) -> int:
    """Returns how many events the build has projected. It may have reached the end of the log before."""
    connection = await asyncpg.connect(admin_url)
    try:
        return int(await connection.fetchval(BUILT.format(await connection.fetchval(BUILDING))))
    finally:
        await connection.close()


def operate(stage: Stage, topic: str, admin_url: str, *arguments: str) -> None:
    """Runs `footfall rebuild ..` to its end. Raises StageError if it fails."""
    environment = {"DATABASE_URL": admin_url, "KAFKA_TOPIC": topic}
    with stage.process("rebuild", "footfall", "rebuild", *arguments, environment=environment) as process:
        if process.wait(600):
            raise StageError(f"footfall rebuild {arguments[0]} failed, see {stage.directory}/rebuild.log")
