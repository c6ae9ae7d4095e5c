"""Compares `POST /events/generate` with ten times as many clients as it admits with its peak."""

from pathlib import Path

from bench.clients.load import Load, Measured
from bench.commands.post import PATH, command_side_process
from bench.result import Result, absolute, compared
from bench.stage import Stage

ADMITTED = 64  # requests in flight that are admitted; the peak is measured with as many connections
CLIENTS = 10 * ADMITTED
SECONDS = 10.0  # of each measurement
REFUSED_WAIT = 1.0  # seconds that a refused client waits at least, as Retry-After asks
REFUSALS = 0.025  # rate of refusals at most, as a share of the peak's rate, because refusing costs CPU, too


def overload(stage: Stage) -> list[Result]:
    """Goodput, p99 and memory with ten times as many clients as are admitted, in turn with the peak."""
    topic = stage.topic("bench-overload")
    peak: list[Measured] = []
    over: list[Measured] = []
    memory: list[float] = []
    with command_side_process(stage, topic, {"MAX_REQUESTS_IN_FLIGHT": str(ADMITTED)}) as (process, port):
        for run in range(stage.runs):
            peak.append(stage.work("bench.clients.load", Load(port, PATH, ADMITTED, SECONDS, seed=run), Measured))
            wait = max(REFUSED_WAIT, (CLIENTS - ADMITTED) / (REFUSALS * peak[-1].per_second))
            load = Load(port, PATH, CLIENTS, SECONDS, seed=run, refused_wait=wait)
            over.append(stage.work("bench.clients.load", load, Measured))
            memory.append(resident_mib(process.pid))
            stage.say(
                f"overload, run {run + 1}/{stage.runs}: peak {peak[-1].per_second:,.0f} requests/s; {CLIENTS} clients: "
                f"{over[-1].per_second:,.0f} accepted and {over[-1].refused / SECONDS:,.0f} refused, "
                f"p99 {over[-1].p99:.0f} ms, {memory[-1]:.0f} MiB"
            )
    peak_is = f"peak at {ADMITTED} connections"
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
    """Returns the resident memory of the process in MiB (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
