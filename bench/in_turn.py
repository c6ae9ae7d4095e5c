"""Measures POSTs to two command sides on one topic in turn: what a setting costs beside a process without it."""

import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from typing import NamedTuple

from bench.clients.load import Load, Measured
from bench.commands.post import PATH, SECONDS, command_side_process, rates
from bench.projecting.drain import cpu_of
from bench.result import Result, absolute, compared
from bench.stage import Stage

WARMUP = 1.0  # seconds
TURNS = 2  # of each way in a run, so that each is first as often as the other


class Way(NamedTuple):
    """A command side: its settings, and the key that clients show; empty: none."""

    environment: Mapping[str, str]
    key: str = ""


class Turn(NamedTuple):
    """One load: what was answered, and the CPU of the process for each request, microseconds."""

    measured: Measured
    microseconds: float


def posts_in_turn(stage: Stage, what: str, plain: str, ways: Mapping[str, Way]) -> list[Result]:
    """Two ways at 64 connections. `plain`: the way that the other is compared with; goals: 0.95 of its POST/s."""
    topic, [other] = stage.topic(f"bench-{what}-post"), [name for name in ways if name != plain]
    turns: dict[str, list[Turn]] = {plain: [], other: []}
    with ExitStack() as running:
        sides = {
            name: running.enter_context(command_side_process(stage, topic, way.environment))
            for name, way in ways.items()
        }
        for run in range(TURNS * stage.runs):
            for name in (plain, other)[:: 1 if run % 2 else -1]:
                turns[name].append(_turn(stage, sides[name], ways[name].key, run))
            figures = ", ".join(f"{name} {each[-1].microseconds:.1f}" for name, each in turns.items())
            stage.say(f"CPU of a POST, run {run + 1}/{TURNS * stage.runs}: {figures} us")
    both = turns[other], turns[plain]
    spent = [[each.microseconds for each in found] for found in both]
    answered = [[each.measured for each in found] for found in both]
    return [
        compared(f"{what}_post", "requests/s", rates(answered[0]), plain, rates(answered[1]), (">=", 0.95)),
        compared(f"{what}_post_cpu", "us", spent[0], plain, spent[1], ("<=", 1.05)),
        absolute(f"{what}_errors", "errors", [sum(one.errors for found in answered for one in found)], ("==", 0)),
    ]


def _turn(stage: Stage, side: "tuple[subprocess.Popen[bytes], int]", key: str, seed: int) -> Turn:
    process, port = side
    before = cpu_of([process])
    load = Load(port, PATH, 64, SECONDS, warmup=WARMUP, seed=seed, key=key)
    found = stage.work("bench.clients.load", load, Measured)
    whole = found.requests * (1 + WARMUP / SECONDS)  # with those of the warm-up
    return Turn(found, (cpu_of([process]) - before) / whole * 1e6)
