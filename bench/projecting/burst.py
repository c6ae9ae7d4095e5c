"""How long projectors need for what a burst left behind, on ten partitions."""

import os

from bench.clients.history import Filled, History
from bench.projecting.drain import EVERYTHING, bare_copy, drained
from bench.result import Result, compared
from bench.stage import Stage

PARTITIONS = 10
PROCESSES = (1, 2, 4)
EVENTS, LONG_EVENTS = 100_000, 500_000
BARE = "bare COPY of the same rows, 1 connection"


def burst(stage: Stage) -> list[Result]:
    """Seconds until 1, 2 and 4 projectors have caught up with 100,000 events (FOOTFALL_LONG: 500,000)."""
    events = LONG_EVENTS if os.environ.get("FOOTFALL_LONG") else EVENTS
    topic = stage.topic("bench-burst", PARTITIONS)
    stage.work("bench.clients.history", History(topic, events), Filled)
    took: dict[int, list[float]] = {processes: [] for processes in PROCESSES}
    bare = []
    for run in range(stage.runs):
        bare.append(events / bare_copy(stage, topic, 1, run, partitions=PARTITIONS, events=events))
        for processes in PROCESSES:
            took[processes].append(drained(stage, topic, processes, run, EVERYTHING, events, PARTITIONS).seconds)
        said = ", ".join(f"{number}: {runs[-1]:.1f} s" for number, runs in took.items())
        stage.say(f"burst of {events:,}, run {run + 1}/{stage.runs}: {said}; COPY {bare[-1]:.1f} s")
    return [compared(f"burst_gone_with_{number}", "s", took[number], BARE, bare) for number in PROCESSES]
