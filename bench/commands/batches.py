"""Compares `POST /events/generate/batch`, 500 events a request, with bare aiokafka `send_batch` of such records."""

from typing import Literal

from bench.clients.load import Load, Measured
from bench.commands.post import command_side_process
from bench.references.bare_batches import BareBatches, Sent
from bench.result import Result, absolute, compared
from bench.stage import Stage

PATH = "/events/generate/batch"
ITEMS = 500
CONNECTIONS = 8
SECONDS = 5.0  # of each measurement
COMPRESSIONS: tuple[Literal["gzip", "zstd"], ...] = ("gzip", "zstd")


def batches(stage: Stage) -> list[Result]:
    """Events/s of one worker through the batch endpoint, in turn with bare send_batch, for gzip and zstd."""
    return [row for compression in COMPRESSIONS for row in with_compression(stage, compression)]


def with_compression(stage: Stage, compression: Literal["gzip", "zstd"]) -> list[Result]:
    """Measures one compression."""
    topic = stage.topic(f"bench-batches-{compression}")
    ours: list[Measured] = []
    bare: list[Sent] = []
    with command_side_process(stage, topic, {"KAFKA_COMPRESSION": compression}) as (_, port):
        for run in range(stage.runs):
            load = Load(port, PATH, CONNECTIONS, SECONDS, seed=run, items=ITEMS)
            ours.append(stage.work("bench.clients.load", load, Measured))
            bare.append(
                stage.work("bench.references.bare_batches", BareBatches(topic, SECONDS, compression, seed=run), Sent)
            )
            stage.say(
                f"batches of {ITEMS}, {compression}, run {run + 1}/{stage.runs}: "
                f"{ours[-1].per_second * ITEMS:,.0f} events/s, bare send_batch {bare[-1].per_second:,.0f}"
            )
    return [
        compared(
            f"batch_{compression}",
            "events/s",
            [one.per_second * ITEMS for one in ours],
            "aiokafka send_batch",
            [one.per_second for one in bare],
            (">=", 0.3),
        ),
        absolute(f"batch_{compression}_errors", "errors", [sum(one.errors for one in ours)], ("==", 0)),
    ]
