"""Measures `POST /events/generate`: throughput at 64 and 256 connections, latency at one, each beside a reference."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from bench.clients.load import Load, Measured
from bench.references.round_trip import RoundTrips, Timed
from bench.result import Result, absolute, compared
from bench.stage import Stage, free_port

PATH = "/events/generate"
SECONDS = 5.0  # of each measurement
WARM_UPS = 3  # each as long as a measurement
LITESTAR = "typed Litestar route, no Kafka"
BARE_ASGI = "bare ASGI app, no Kafka"


def throughput(stage: Stage) -> list[Result]:
    """Requests/s of one command-side worker at 64 connections, in turn with a typed Litestar route and bare ASGI."""
    topic = stage.topic("bench-post")
    with command_side(stage, topic) as ours, ExitStack() as references:
        ports = {kind: references.enter_context(reference(stage, kind)) for kind in ("litestar", "asgi")}
        measured: dict[str, list[Measured]] = {"ours": [], "litestar": [], "asgi": []}
        for run in range(stage.runs):
            for kind, port in {"ours": ours, **ports}.items():
                measured[kind].append(load(stage, port, connections=64, seed=run))
            figures = ", ".join(f"{kind} {rounds[-1].per_second:,.0f}" for kind, rounds in measured.items())
            stage.say(f"POST at 64 connections, run {run + 1}/{stage.runs}: {figures} requests/s")
    ours_, litestar, asgi = measured["ours"], measured["litestar"], measured["asgi"]
    return [
        compared("post_64_connections", "requests/s", rates(ours_), LITESTAR, rates(litestar), (">=", 0.6)),
        absolute("post_64_errors", "errors", [sum(one.errors for one in ours_)], ("==", 0)),
        compared("post_64_p50", "ms", [one.p50 for one in ours_], LITESTAR, [one.p50 for one in litestar]),
        compared("post_64_p99", "ms", [one.p99 for one in ours_], LITESTAR, [one.p99 for one in litestar]),
        compared("post_64_vs_bare_asgi", "requests/s", rates(ours_), BARE_ASGI, rates(asgi), (">=", 0.55)),
    ]


def throughput_256(stage: Stage) -> list[Result]:
    """Requests/s of one command-side worker at 256 connections, in turn with bare ASGI."""
    topic = stage.topic("bench-post-256")
    with command_side(stage, topic) as ours, reference(stage, "asgi") as bare:
        measured: list[Measured] = []
        asgi: list[Measured] = []
        for run in range(stage.runs):
            measured.append(load(stage, ours, connections=256, seed=run))
            asgi.append(load(stage, bare, connections=256, seed=run))
            figures = f"ours {measured[-1].per_second:,.0f}, asgi {asgi[-1].per_second:,.0f}"
            stage.say(f"POST at 256 connections, run {run + 1}/{stage.runs}: {figures} requests/s")
    return [
        compared("post_256_vs_bare_asgi", "requests/s", rates(measured), BARE_ASGI, rates(asgi), (">=", 0.75)),
        absolute("post_256_p99", "ms", [one.p99 for one in measured]),
        absolute("post_256_errors", "errors", [sum(one.errors for one in measured)], ("==", 0)),
    ]


def latency(stage: Stage) -> list[Result]:
    """p50 of a POST at one connection, in turn with a bare `send_batch` round trip of the same record."""
    topic = stage.topic("bench-post-one")
    with command_side(stage, topic) as ours:
        measured: list[Measured] = []
        bare: list[Timed] = []
        for run in range(stage.runs):
            measured.append(load(stage, ours, connections=1, seed=run))
            bare.append(stage.work("bench.references.round_trip", RoundTrips(topic, SECONDS, seed=run), Timed))
            stage.say(
                f"POST at 1 connection, run {run + 1}/{stage.runs}: "
                f"p50 {measured[-1].p50:.2f} ms, bare send_batch {bare[-1].p50:.2f} ms"
            )
    reference = "aiokafka send_batch round trip"
    return [
        compared(
            "post_1_connection_p50", "ms", [m.p50 for m in measured], reference, [b.p50 for b in bare], ("<=", 1.5)
        ),
        compared("post_1_connection_p99", "ms", [m.p99 for m in measured], reference, [b.p99 for b in bare]),
        absolute("post_1_errors", "errors", [sum(one.errors for one in measured)], ("==", 0)),
    ]


def generator_limit(stage: Stage) -> list[Result]:
    """Requests/s of the load generator against a server that sends the same bytes for every request."""
    with reference(stage, "protocol") as port:
        measured = [load(stage, port, connections=64, seed=run) for run in range(stage.runs)]
    stage.say(f"load generator's own limit: {max(rates(measured)):,.0f} requests/s")
    return [absolute("load_generator_limit", "requests/s", rates(measured))]


@contextmanager
def command_side_process(
    stage: Stage, topic: str, environment: Mapping[str, str], program: str = "footfall"
) -> "Iterator[tuple[subprocess.Popen[bytes], int]]":
    """Runs one worker of the command side with these settings during the body; yields its process and port.

    `program`: the module that is run.
    """
    port = free_port()
    arguments = ("command-side", "--port", str(port))
    settings = {"KAFKA_TOPIC": topic, **environment}
    with stage.process("command-side", program, *arguments, port=port, environment=settings) as process:
        yield process, port


@contextmanager
def command_side(stage: Stage, topic: str) -> Iterator[int]:
    """Runs one worker of the command side during the body; yields its port."""
    with command_side_process(stage, topic, {}) as (_, port):
        yield port


@contextmanager
def reference(stage: Stage, kind: str) -> Iterator[int]:
    """Runs one worker of a reference application during the body; yields its port."""
    port = free_port()
    with stage.process(f"reference-{kind}", "bench.references.app", kind, str(port), port=port):
        yield port


def warm_up(stage: Stage) -> None:
    """Sends load that is not counted: until its code is compiled, a new broker needs three times the CPU."""
    stage.say("warming the broker up")
    with command_side(stage, stage.topic("bench-warm-up")) as port:
        for seed in range(WARM_UPS):
            load(stage, port, connections=64, seed=seed)


def load(stage: Stage, port: int, connections: int, seed: int) -> Measured:
    """Runs one measurement with a load generator in a separate process."""
    return stage.work("bench.clients.load", Load(port, PATH, connections, SECONDS, seed=seed), Measured)


def rates(measured: list[Measured]) -> list[float]:
    """Returns the requests/s of each run."""
    return [one.per_second for one in measured]
