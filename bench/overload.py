"""`POST /events/generate` with ten times as many clients as it lets in: goodput, latency and memory beside its peak."""

from pathlib import Path

from bench.load import Load, Measured
from bench.post import PATH, command_side_process
from bench.result import Result, absolute, compared
from bench.stage import Stage

INSIDE = 64  # requests in flight that are let in; as many connections make the peak
CLIENTS = 10 * INSIDE
SECONDS = 10.0  # of each measurement
REFUSED_WAIT = 1.0  # seconds that a refused client waits at least: what Retry-After asks for
REFUSALS = 0.025  # of the peak's rate, at most: to refuse is work, too, and a slow machine is asked no more often


def overload(stage: Stage) -> list[Result]:
    """Goodput, p99 and memory with ten times as many clients as are let in, in turn with the peak."""
    topic = stage.topic("bench-overload")
    peak: list[Measured] = []
    over: list[Measured] = []
    memory: list[float] = []
    with command_side_process(stage, topic, {"MAX_REQUESTS_IN_FLIGHT": str(INSIDE)}) as (process, port):
        for run in range(stage.runs):
            peak.append(stage.work("bench.load", Load(port, PATH, INSIDE, SECONDS, seed=run), Measured))
            wait = max(REFUSED_WAIT, (CLIENTS - INSIDE) / (REFUSALS * peak[-1].per_second))
            load = Load(port, PATH, CLIENTS, SECONDS, seed=run, refused_wait=wait)
            over.append(stage.work("bench.load", load, Measured))
            memory.append(resident_mib(process.pid))
            stage.say(
                f"overload, run {run + 1}/{stage.runs}: peak {peak[-1].per_second:,.0f} requests/s; {CLIENTS} clients: "
                f"{over[-1].per_second:,.0f} accepted and {over[-1].refused / SECONDS:,.0f} refused, "
                f"p99 {over[-1].p99:.0f} ms, {memory[-1]:.0f} MiB"
            )
    peak_is = f"peak at {INSIDE} connections"
    return [
        compared(
            "overload_goodput",
            "requests/s",
            [one.per_second for one in over],
            peak_is,
            [one.per_second for one in peak],
            (">=", 0.9),
        ),
        compared(
            "overload_accepted_p99", "ms", [one.p99 for one in over], peak_is, [one.p99 for one in peak], ("<=", 5)
        ),
        absolute("overload_refused_p99", "ms", [one.refused_p99 for one in over]),
        absolute("overload_memory", "MiB", memory, ("<=", 256)),
        absolute("overload_errors", "errors", [sum(one.errors for one in over)], ("==", 0)),
    ]


def resident_mib(pid: int) -> float:
    """Memory that the process holds now (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
