"""Measures what traces cost with one percent of the requests sampled: POST/s, CPU of a POST, and draining."""

import subprocess
from collections.abc import Mapping
from contextlib import ExitStack

from bench.clients.history import Filled, History
from bench.clients.load import Measured
from bench.commands.post import command_side_process, load, rates
from bench.projecting.drain import EVERYTHING, PARTITIONS, cpu_of, race
from bench.result import Result, absolute, compared
from bench.stage import NOTHING, Stage, free_port

EVENTS = 200_000  # in the history that is drained
ONE_IN = 100
OFF = "traces off"


def traces(stage: Stage) -> list[Result]:
    """POST/s at 64 connections and events/s of a drain, with traces of one percent in turn with traces off."""
    sink = free_port()
    with stage.process("span-sink", "bench.clients.span_sink", str(sink), port=sink):
        sampled = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sink}",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": str(1 / ONE_IN),
        }
        return [*posts(stage, sampled), *drains(stage, sampled)]


def posts(stage: Stage, sampled: Mapping[str, str]) -> list[Result]:
    """Two command sides on one topic, one with traces, in turn."""
    topic = stage.topic("bench-traces-post")
    measured: dict[str, list[Measured]] = {OFF: [], "sampled": []}
    spent: dict[str, list[float]] = {OFF: [], "sampled": []}
    with ExitStack() as running:
        sides = {
            name: running.enter_context(command_side_process(stage, topic, environment))
            for name, environment in ((OFF, NOTHING), ("sampled", sampled))
        }
        for run in range(2 * stage.runs):  # each way is first as often as the other
            for name in list(sides)[:: 1 if run % 2 else -1]:
                process, port = sides[name]
                found, microseconds = one_load(stage, process, port, run)
                measured[name].append(found)
                spent[name].append(microseconds)
            figures = ", ".join(f"{name} {each[-1]:.1f}" for name, each in spent.items())
            stage.say(f"CPU of a POST, run {run + 1}/{2 * stage.runs}: {figures} us")
    return [
        compared("traces_post", "requests/s", rates(measured["sampled"]), OFF, rates(measured[OFF]), (">=", 0.95)),
        compared("traces_post_cpu", "us", spent["sampled"], OFF, spent[OFF], ("<=", 1.05)),
        absolute("traces_errors", "errors", [sum(one.errors for each in measured.values() for one in each)], ("==", 0)),
    ]


def one_load(stage: Stage, process: "subprocess.Popen[bytes]", port: int, run: int) -> tuple[Measured, float]:
    """One load, and the microseconds of CPU of each of its requests."""
    before = cpu_of([process])
    found = load(stage, port, connections=64, seed=run)
    whole = found.requests * (1 + 1 / 5)  # with those of the warm-up
    return found, (cpu_of([process]) - before) / whole * 1e6


def drains(stage: Stage, sampled: Mapping[str, str]) -> list[Result]:
    """One projector with all projections, of a history of which one record in a hundred belongs to a trace."""
    topic = stage.topic("bench-traces-drain", PARTITIONS)
    stage.work("bench.clients.history", History(topic, EVENTS, traced=ONE_IN), Filled)
    rates_of: dict[str, list[float]] = {OFF: [], "sampled": []}
    for run in range(stage.runs):
        for number, (name, more) in enumerate(((OFF, NOTHING), ("sampled", sampled))):
            rates_of[name].append(race(stage, topic, 1, 2 * run + number, EVERYTHING, EVENTS, more))
        figures = ", ".join(f"{name} {found[-1]:,.0f}" for name, found in rates_of.items())
        stage.say(f"drain of traced events, run {run + 1}/{stage.runs}: {figures} events/s")
    return [compared("traces_drain", "events/s", rates_of["sampled"], OFF, rates_of[OFF], (">=", 0.95))]
