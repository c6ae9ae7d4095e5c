"""Measures a thousand live streams of one process, and reads of events that were just posted."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil

from bench.clients.first_sight import FirstSights, Seen
from bench.clients.sse_client import Followed, Followers
from bench.projecting.visible import POST_P50, POST_P99
from bench.result import Result, absolute, compared
from bench.stage import Stage, free_port

CLIENTS = 1_000
EVENTS = 50  # posted events in a run of streams
PAIRS = 600  # posts and reads in a run of fresh reads
POLLED = "a GET for each, one after the other"
MIB = 1024 * 1024


@contextmanager
def front(stage: Stage, name: str) -> "Iterator[tuple[int, psutil.Process]]":
    """Runs a front and a projector on a new topic during the body; yields the front's port and process."""
    topic = stage.topic(f"bench-{name}")
    stage.migrated(stage.stack.admin_url)
    port = free_port()
    projector = {"DATABASE_URL": stage.stack.projector_url, "KAFKA_TOPIC": topic, "PROJECTOR_PORT": "0"}
    environment = {"DATABASE_URL": stage.stack.query_url, "KAFKA_TOPIC": topic}
    with ExitStack() as running:
        running.enter_context(stage.process(f"{name}-projector", "footfall", "projector", environment=projector))
        arguments = ("front", "--port", str(port))
        process = running.enter_context(
            stage.process(f"{name}-front", "footfall", *arguments, port=port, environment=environment)
        )
        yield port, psutil.Process(process.pid)


def streams(stage: Stage) -> list[Result]:
    """From a POST to the last of 1,000 clients of one process that has the event, and that process's memory."""
    measured, memory = [], []
    with front(stage, "streams") as (port, process):
        for run in range(stage.runs):
            measured.append(stage.work("bench.clients.sse_client", Followers(port, CLIENTS, EVENTS), Followed))
            memory.append(resident(process) / MIB)
            stage.say(
                f"{CLIENTS} streams, run {run + 1}/{stage.runs}: p99 {measured[-1].p99:.0f} ms, {memory[-1]:.0f} MiB"
            )
    polled = [one.polled for one in measured]
    return [
        compared("streams_1000_last_client_p50", "ms", [one.p50 for one in measured], POLLED, polled),
        compared("streams_1000_last_client_p99", "ms", [one.p99 for one in measured], POLLED, polled, ("<=", 1)),
        absolute("streams_1000_events_missing", "events", [one.missing for one in measured], ("==", 0)),
        absolute("streams_1000_resident_memory", "MiB", memory, ("<=", 300)),
    ]


def resident(process: psutil.Process) -> int:
    """Returns the resident bytes of the process and its children; the first process may be only the launcher."""
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))


def fresh_reads(stage: Stage) -> list[Result]:
    """From sending a GET with the position of a 201 to its answer, which must contain the event."""
    measured = []
    with front(stage, "fresh") as (port, _):
        for run in range(stage.runs):
            measured.append(
                stage.work("bench.clients.first_sight", FirstSights(port, PAIRS, seed=run, by_position=True), Seen)
            )
            p50, p99 = measured[-1].p50, measured[-1].p99
            stage.say(f"fresh reads, run {run + 1}/{stage.runs}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    posts = [one.post_p50 for one in measured], [one.post_p99 for one in measured]
    return [
        compared("fresh_read_p50", "ms", [one.p50 for one in measured], POST_P50, posts[0], ("<=", 3)),
        compared("fresh_read_p99", "ms", [one.p99 for one in measured], POST_P99, posts[1], ("<=", 8)),
    ]
