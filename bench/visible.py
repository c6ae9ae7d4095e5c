"""How soon an accepted event can be read, with nothing else going on."""

from contextlib import ExitStack

from bench.first_sight import FirstSights, Seen
from bench.result import Result, absolute
from bench.stage import Stage, free_port

EVENTS = 600  # a run


def visible(stage: Stage) -> list[Result]:
    """From the 201 to the first 200 of `GET /events/{id}`; front and projector are processes of their own."""
    topic = stage.topic("bench-visible")
    stage.migrated(stage.stack.admin_url)
    port = free_port()
    projector = {"DATABASE_URL": stage.stack.projector_url, "KAFKA_TOPIC": topic, "PROJECTOR_PORT": "0"}
    front = {"DATABASE_URL": stage.stack.query_url, "KAFKA_TOPIC": topic}
    with ExitStack() as running:
        running.enter_context(stage.process("visible-projector", "footfall", "projector", environment=projector))
        arguments = ("front", "--port", str(port))
        running.enter_context(stage.process("front", "footfall", *arguments, port=port, environment=front))
        measured = []
        for run in range(stage.runs):
            measured.append(stage.work("bench.first_sight", FirstSights(port, EVENTS, seed=run), Seen))
            p50, p99 = measured[-1].p50, measured[-1].p99
            stage.say(f"201 to visible, run {run + 1}/{stage.runs}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    return [
        absolute("visible_after_201_p50", "ms", [one.p50 for one in measured], ("<=", 10)),
        absolute("visible_after_201_p99", "ms", [one.p99 for one in measured], ("<=", 50)),
    ]
