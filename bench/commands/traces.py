"""Measures what traces cost with one percent of the requests sampled: POST/s, CPU of a POST, and draining."""

from collections.abc import Mapping

from bench.clients.history import Filled, History
from bench.in_turn import Way, posts_in_turn
from bench.projecting.drain import EVERYTHING, PARTITIONS, race
from bench.result import Result, compared
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
        ways = {OFF: Way(NOTHING), "sampled": Way(sampled)}
        return [*posts_in_turn(stage, "traces", OFF, ways), *drains(stage, sampled)]


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
