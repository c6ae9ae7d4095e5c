"""Compares the sealed log with the plain one: POST, batches and draining, with everything that each needs.

Two command sides run at the same time, and are loaded in turn. What they wrote is then drained by a projector with all
projections. Figures are microseconds of the clock for each event, of all the work that the machine has with it.
"""

import asyncio
import base64
import os
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import count

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.batches import CONNECTIONS, ITEMS
from bench.batches import PATH as BATCH
from bench.drain import EVERYTHING, PARTITIONS, drained, in_database, recreate
from bench.load import Load, Measured
from bench.post import command_side_process, load
from bench.result import Result, absolute, compared
from bench.stage import Stage, StageError
from sealing.schema import prepare

WAYS = ("plain", "sealed")
SECONDS = 5.0  # of a measurement of batches, whose events are then drained
POST_GOAL, BATCH_GOAL, DRAIN_GOAL = 1.1, 1.55, 1.35  # times the plain log's
KEYS_DATABASE = "bench_keys"

_serial = count(1)


def sealed(stage: Stage) -> list[Result]:
    """Microseconds for each event of the sealed log, beside the plain one: POST at 64 connections, batches, drained."""
    environments: dict[str, Mapping[str, str]] = {"plain": {}, "sealed": key_store(stage)}
    spent: dict[str, dict[str, list[float]]] = {what: {way: [] for way in WAYS} for what in ("post", "batch", "drain")}
    errors = 0
    with ExitStack() as running:
        posting = {
            way: running.enter_context(
                command_side_process(stage, stage.topic(f"bench-sealed-post-{way}"), environments[way])
            )[1]
            for way in WAYS
        }
        for run in range(stage.runs):
            for way in turns(run):
                measured = load(stage, posting[way], connections=64, seed=run)
                errors += measured.errors
                spent["post"][way].append(1e6 / measured.per_second)
    for run in range(stage.runs):
        for way in turns(run):
            batches, topic = in_batches(stage, way, environments[way], run)
            errors += batches.errors
            spent["batch"][way].append(1e6 / batches.per_second / ITEMS)
            spent["drain"][way].append(drain(stage, topic, environments[way], run))
    for what, ways in spent.items():
        figures = ", ".join(f"{way} {' '.join(f'{one:.1f}' for one in found)}" for way, found in ways.items())
        stage.say(f"sealed log, {what}: {figures} us")
    return [
        *(
            compared(f"sealed_{what}", "us", spent[what]["sealed"], "plain log", spent[what]["plain"], ("<=", goal))
            for what, goal in (("post", POST_GOAL), ("batch", BATCH_GOAL), ("drain", DRAIN_GOAL))
        ),
        absolute("sealed_errors", "errors", [errors], ("==", 0)),
    ]


def turns(run: int) -> tuple[str, ...]:
    """The ways, each first in every other run."""
    return WAYS if run % 2 == 0 else WAYS[::-1]


def key_store(stage: Stage) -> dict[str, str]:
    """Makes a key store, and returns what processes read to use it."""
    url = in_database(stage.stack.admin_url, KEYS_DATABASE)
    asyncio.run(recreate(stage.stack.admin_url, KEYS_DATABASE))
    asyncio.run(prepare(url))
    tenant_keys = f"* first {base64.b64encode(os.urandom(32)).decode()}"
    return {"PRIVACY": "sealed", "KEY_STORE_URL": url, "TENANT_KEYS": tenant_keys}


def in_batches(stage: Stage, way: str, environment: Mapping[str, str], run: int) -> tuple[Measured, str]:
    """Loads a new command side with batches; returns what was measured, and the topic with the events."""
    topic = stage.topic(f"bench-sealed-{way}-{next(_serial)}", PARTITIONS)
    with command_side_process(stage, topic, environment) as (_, port):
        batches = Load(port, BATCH, CONNECTIONS, SECONDS, seed=run, items=ITEMS)
        return stage.work("bench.load", batches, Measured), topic


def drain(stage: Stage, topic: str, environment: Mapping[str, str], run: int) -> float:
    """Drains a topic; returns microseconds for each event."""
    events = asyncio.run(length(stage, topic))
    if not events:
        raise StageError(f"{topic} is empty")
    return 1e6 * drained(stage, topic, 1, run, EVERYTHING, events, more=environment).seconds / events


async def length(stage: Stage, topic: str) -> int:
    """How many records a topic has."""
    async with AIOKafkaConsumer(bootstrap_servers=stage.stack.kafka_bootstrap) as consumer:
        ends = await consumer.end_offsets([TopicPartition(topic, partition) for partition in range(PARTITIONS)])
    return sum(ends.values())
