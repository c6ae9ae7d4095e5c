"""How soon an accepted event can be read, with all projections on."""

from contextlib import ExitStack

import msgspec

from bench.background import Background
from bench.first_sight import FirstSights, Seen
from bench.result import Result, absolute
from bench.stage import Stage, free_port

EVENTS = 600  # a run
BACKGROUND = 5_000  # events a second


def visible(stage: Stage) -> list[Result]:
    """From the 201 to the first 200 of `GET /events/{id}`, idle and with 5,000 events/s in the background."""
    topic = stage.topic("bench-visible")
    stage.migrated(stage.stack.admin_url)
    port = free_port()
    projector = {"DATABASE_URL": stage.stack.projector_url, "KAFKA_TOPIC": topic, "PROJECTOR_PORT": "0"}
    front = {"DATABASE_URL": stage.stack.query_url, "KAFKA_TOPIC": topic}
    with ExitStack() as running:
        running.enter_context(stage.process("visible-projector", "footfall", "projector", environment=projector))
        arguments = ("front", "--port", str(port))
        running.enter_context(stage.process("front", "footfall", *arguments, port=port, environment=front))
        idle = sights(stage, port, "idle")
        background = msgspec.json.encode(Background(topic, BACKGROUND)).decode()
        running.enter_context(stage.process("background", "bench.background", background))
        busy = sights(stage, port, f"with {BACKGROUND:,} events/s beside")
    return [
        absolute("visible_after_201_p50", "ms", [one.p50 for one in idle], ("<=", 4)),
        absolute("visible_after_201_p99", "ms", [one.p99 for one in idle], ("<=", 15)),
        absolute("visible_with_5000_a_second_p50", "ms", [one.p50 for one in busy]),
        absolute("visible_with_5000_a_second_p99", "ms", [one.p99 for one in busy], ("<=", 30)),
    ]


def sights(stage: Stage, port: int, how: str) -> list[Seen]:
    """Each run's latencies."""
    measured = []
    for run in range(stage.runs):
        measured.append(stage.work("bench.first_sight", FirstSights(port, EVENTS, seed=run), Seen))
        p50, p99 = measured[-1].p50, measured[-1].p99
        stage.say(f"201 to visible, {how}, run {run + 1}/{stage.runs}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    return measured
