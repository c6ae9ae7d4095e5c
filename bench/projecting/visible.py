"""Measures how soon an accepted event can be read, with all projections."""

from contextlib import ExitStack

import msgspec

from bench.clients.background import Background
from bench.clients.first_sight import FirstSights, Seen
from bench.clients.history import Filled, History
from bench.projecting.drain import EVERYTHING, PARTITIONS, race
from bench.result import Result, compared
from bench.stage import Stage, free_port

EVENTS = 600  # in a run
CAPACITY_EVENTS = 100_000  # events whose drain measures the capacity of this machine
POST_P50, POST_P99 = "its POST, p50", "its POST, p99"
SHARE = 0.1  # share of the capacity in the background: 5,000 events a second on the machine where it was chosen


def visible(stage: Stage) -> list[Result]:
    """From the 201 to the first 200 of `GET /events/{id}`, idle and beside a tenth of what the projector can take."""
    background = int(SHARE * capacity(stage))
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
        task = msgspec.json.encode(Background(topic, background)).decode()
        running.enter_context(stage.process("background", "bench.clients.background", task))
        busy = sights(stage, port, f"with {background:,} events/s beside")
    p50, p99 = [one.p50 for one in idle], [one.p99 for one in idle]
    return [
        compared("visible_after_201_p50", "ms", p50, POST_P50, [one.post_p50 for one in idle], ("<=", 4)),
        compared("visible_after_201_p99", "ms", p99, POST_P99, [one.post_p99 for one in idle], ("<=", 8)),
        compared("visible_at_a_tenth_p50", "ms", [one.p50 for one in busy], "the same, idle", p50),
        compared("visible_at_a_tenth_p99", "ms", [one.p99 for one in busy], "the same, idle", p99, ("<=", 8)),
    ]


def capacity(stage: Stage) -> float:
    """Measures the events/s that one projector with all projections can take on this machine."""
    topic = stage.topic("bench-capacity", PARTITIONS)
    stage.work("bench.clients.history", History(topic, CAPACITY_EVENTS), Filled)
    found = race(stage, topic, 1, 0, EVERYTHING, CAPACITY_EVENTS)
    stage.say(f"one projector takes {found:,.0f} events/s")
    return found


def sights(stage: Stage, port: int, how: str) -> list[Seen]:
    """Measures the latencies of each run."""
    measured = []
    for run in range(stage.runs):
        measured.append(stage.work("bench.clients.first_sight", FirstSights(port, EVENTS, seed=run), Seen))
        p50, p99 = measured[-1].p50, measured[-1].p99
        stage.say(f"201 to visible, {how}, run {run + 1}/{stage.runs}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    return measured
