"""Compares the sealed log with the plain one: POST, batches and draining, with everything that each needs.

Three command sides run at the same time, and are loaded in turn. What they wrote is then drained by a projector with
all projections. Figures are microseconds of the clock for each event, of all the work that the machine has with it.
"""

import asyncio
import base64
import os
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import count
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.clients.load import Load, Measured
from bench.commands.batches import CONNECTIONS, ITEMS
from bench.commands.batches import PATH as BATCH
from bench.commands.post import PATH as POST
from bench.commands.post import command_side_process
from bench.commands.sealed_cpu_process import Spent as AloneSpent
from bench.commands.sealed_cpu_process import Way
from bench.projecting.drain import EVERYTHING, PARTITIONS, cpu_of, drained, in_database, recreate
from bench.result import Result, compared
from bench.stage import Stage, StageError
from sealing.schema import prepare

# What is compared. Volume: with records that were sealed beforehand, so that only their volume is paid for.
WAYS = ("plain", "sealed", "volume")
PROGRAMS = {"volume": "bench.references.sealed_beforehand"}
SECONDS = 5.0  # of a measurement of batches, whose events are then drained
GOALS = {"post": 1.1, "batch": 1.55, "drain": 1.35}  # times the plain log's
KEYS_DATABASE = "bench_keys"

_serial = count(1)


class Spent(NamedTuple):
    """Microseconds for one event: of the clock, and of the CPU of our process."""

    clock: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.clock:.1f}/{self.cpu:.1f}"


def sealed(stage: Stage) -> list[Result]:
    """Microseconds for each event of the sealed log, beside the plain one: POST at 64 connections, batches, drained."""
    sealing = key_store(stage)
    environments: dict[str, Mapping[str, str]] = {"plain": {}, "sealed": sealing, "volume": sealing}
    spent: dict[str, dict[str, list[Spent]]] = {what: {way: [] for way in WAYS} for what in GOALS}
    with ExitStack() as running:
        posting = {
            way: running.enter_context(
                command_side_process(stage, stage.topic(f"bench-sealed-post-{way}"), environments[way], program(way))
            )
            for way in WAYS
        }
        for run in range(stage.runs):
            for way in turns(run):
                spent["post"][way].append(
                    loaded(stage, posting[way], Load(posting[way][1], POST, 64, SECONDS, seed=run))
                )
    for run in range(stage.runs):
        for way in turns(run):
            batches, topic = in_batches(stage, way, environments[way], run)
            spent["batch"][way].append(batches)
            if way != "volume":
                spent["drain"][way].append(drain(stage, topic, environments[way], run))
    for what, ways in spent.items():
        figures = ", ".join(f"{way} {' '.join(map(str, found))}" for way, found in ways.items())
        stage.say(f"sealed log, {what}, us of the clock/of our CPU: {figures}")
    rows = [row for what, ways in spent.items() for row in compared_rows(what, ways)]
    return [
        *rows,
        *process_alone(stage, "post", Way(POST, 64, 1)),
        *process_alone(stage, "batch", Way(BATCH, 8, ITEMS)),
    ]


def process_alone(stage: Stage, what: str, way: Way) -> list[Result]:
    """CPU of the process without Kafka and with every user known: what sealing itself costs, beside its floor."""
    found = stage.work("bench.commands.sealed_cpu_process", way, AloneSpent)
    stage.say(f"process alone, {what}, us: plain {found.plain:.1f}, sealed {found.sealed:.1f}, floor {found.floor:.1f}")
    return [compared(f"sealed_{what}_process_alone", "us", [found.sealed], "plain log", [found.plain])]


def compared_rows(what: str, ways: Mapping[str, list[Spent]]) -> list[Result]:
    """The clock, which has the goal, and the CPU of our process, which depends less on what else runs."""
    clock, cpu = ({way: [getattr(one, kind) for one in ways[way]] for way in WAYS} for kind in ("clock", "cpu"))
    rows = [
        compared(f"sealed_{what}", "us", clock["sealed"], "plain log", clock["plain"], ("<=", GOALS[what])),
        compared(f"sealed_{what}_cpu", "us", cpu["sealed"], "plain log", cpu["plain"]),
    ]
    if ways["volume"]:
        rows.append(compared(f"sealed_{what}_volume", "us", clock["volume"], "plain log", clock["plain"]))
    return rows


def turns(run: int) -> tuple[str, ...]:
    """The ways, each first in its turn."""
    first = run % len(WAYS)
    return WAYS[first:] + WAYS[:first]


def program(way: str) -> str:
    """The module that is run as the command side."""
    return PROGRAMS.get(way, "footfall")


def key_store(stage: Stage) -> dict[str, str]:
    """Makes a key store, and returns what processes read to use it."""
    url = in_database(stage.stack.admin_url, KEYS_DATABASE)
    asyncio.run(recreate(stage.stack.admin_url, KEYS_DATABASE))
    asyncio.run(prepare(url))
    tenant_keys = f"* first {base64.b64encode(os.urandom(32)).decode()}"
    return {"PRIVACY": "sealed", "KEY_STORE_URL": url, "TENANT_KEYS": tenant_keys}


def loaded(stage: Stage, command_side: "tuple[subprocess.Popen[bytes], int]", load: Load) -> Spent:
    """Loads a command side. Raises StageError if an answer is no 201."""
    before = cpu_of([command_side[0]])
    measured = stage.work("bench.clients.load", load, Measured)
    if measured.errors:
        raise StageError(f"{measured.errors} requests of {load.path} failed")
    events = measured.per_second * load.items  # a second
    cpu = (cpu_of([command_side[0]]) - before) / (events * (load.seconds + load.warmup))
    return Spent(1e6 / events, 1e6 * cpu)


def in_batches(stage: Stage, way: str, environment: Mapping[str, str], run: int) -> tuple[Spent, str]:
    """Loads a new command side with batches; returns what was measured, and the topic with the events."""
    topic = stage.topic(f"bench-sealed-{way}-{next(_serial)}", PARTITIONS)
    with command_side_process(stage, topic, environment, program(way)) as command_side:
        load = Load(command_side[1], BATCH, CONNECTIONS, SECONDS, seed=run, items=ITEMS)
        return loaded(stage, command_side, load), topic


def drain(stage: Stage, topic: str, environment: Mapping[str, str], run: int) -> Spent:
    """Drains a topic."""
    events = asyncio.run(length(stage, topic))
    if not events:
        raise StageError(f"{topic} is empty")
    found = drained(stage, topic, 1, run, EVERYTHING, events, more=environment)
    return Spent(1e6 * found.seconds / events, 1e6 * found.cpu_seconds / events)


async def length(stage: Stage, topic: str) -> int:
    """How many records a topic has."""
    async with AIOKafkaConsumer(bootstrap_servers=stage.stack.kafka_bootstrap) as consumer:
        ends = await consumer.end_offsets([TopicPartition(topic, partition) for partition in range(PARTITIONS)])
    return sum(ends.values())
