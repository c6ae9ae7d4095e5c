"""Measures what 64 viewers of the console wait for its overview, and what they cost those who post meanwhile."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import psutil

from bench.clients.load import Measured
from bench.clients.paced import Answered
from bench.clients.viewers import Viewers
from bench.commands.post import command_side_process, load, rates
from bench.result import Result, absolute, compared
from bench.stage import Stage, free_port

VIEWERS = 64
LEAD = 4.0  # seconds in which the viewers' own process starts, and pays for that, before anybody posts
SECONDS = 8.0  # that count: as long as the POSTs beside them, with their warm-up
LONGEST = 30  # times a POST: 0.3 s where one takes 10 ms beside 63 others


@contextmanager
def watched(stage: Stage) -> "Iterator[tuple[int, int, psutil.Process]]":
    """Runs a command side, a projector and the console that watches them; yields both ports and the console."""
    topic, port = stage.topic("bench-console"), free_port()
    stage.migrated(stage.stack.admin_url)
    projector_port = free_port()
    topics = {"KAFKA_TOPIC": topic, "KAFKA_DLQ_TOPIC": f"{topic}-dlq"}
    projector = {"DATABASE_URL": stage.stack.projector_url, "PROJECTOR_PORT": str(projector_port), **topics}
    with ExitStack() as running:
        _, side = running.enter_context(command_side_process(stage, topic, {}))
        running.enter_context(
            stage.process("console-projector", "footfall", "projector", port=projector_port, environment=projector)
        )
        environment = {
            "DATABASE_URL": stage.stack.query_url,
            "OPERATOR_DATABASE_URL": stage.stack.admin_url,
            "CONSOLE_WATCH_URLS": f"http://127.0.0.1:{side},http://127.0.0.1:{projector_port}",
            **topics,
        }
        arguments = ("console", "--port", str(port))
        process = running.enter_context(
            stage.process("console", "footfall", *arguments, port=port, environment=environment)
        )
        yield side, port, psutil.Process(process.pid)


def console(stage: Stage) -> list[Result]:
    """What 64 viewers of the overview wait, and the POSTs/s at 64 connections beside them, in turn with nobody."""
    alone: list[Measured] = []
    beside: list[Measured] = []
    answers: list[Answered] = []
    quiet: list[Answered] = []
    with watched(stage) as (side, port, process), ThreadPoolExecutor(1) as thread:
        for run in range(stage.runs):
            alone.append(load(stage, side, connections=64, seed=run))
            before = cpu_of(process)
            looking = thread.submit(
                stage.work, "bench.clients.viewers", Viewers(port, VIEWERS, SECONDS, LEAD), Answered
            )
            time.sleep(LEAD)
            beside.append(load(stage, side, connections=64, seed=run))
            answers.append(looking.result())
            spent = cpu_of(process) - before
            alone.append(load(stage, side, connections=64, seed=run))  # before and after: the machine drifts
            quiet.append(stage.work("bench.clients.viewers", Viewers(port, VIEWERS, SECONDS), Answered))
            stage.say(
                f"{VIEWERS} viewers, run {run + 1}/{stage.runs}: p99 {answers[-1].p99:.0f} ms beside POSTs, "
                f"{quiet[-1].p99:.0f} alone, {spent:.1f} s of CPU; POST {beside[-1].per_second:,.0f} requests/s, "
                f"{alone[-2].per_second:,.0f} and {alone[-1].per_second:,.0f} without viewers"
            )
    posts = "POSTs of 64 connections beside them"
    return [
        compared(
            "console_64_viewers_p99", "ms", [a.p99 for a in answers], posts, [b.p99 for b in beside], ("<=", LONGEST)
        ),
        absolute("console_64_viewers_p99_without_posts", "ms", [a.p99 for a in quiet]),
        absolute("console_64_viewers_errors", "errors", [sum(a.errors for a in (*answers, *quiet))], ("==", 0)),
        compared(
            "console_post_rate", "requests/s", rates(beside), "the same without viewers", rates(alone), (">=", 0.95)
        ),
    ]


def cpu_of(process: psutil.Process) -> float:
    """Seconds of CPU that it and its children have used."""
    found = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return float(sum(each.user + each.system for each in found))
