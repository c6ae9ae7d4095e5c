"""How rows/s and the CPU of an event change with the number of projectors on ten partitions."""

from bench.clients.history import Filled, History
from bench.projecting.drain import EVERYTHING, Drained, drained
from bench.result import Result, absolute, compared
from bench.stage import Stage

PARTITIONS = 10
PROCESSES = (1, 2, 4, 8)
EVENTS = 300_000


def projectors_scale(stage: Stage) -> list[Result]:
    """Rows/s and CPU per event of 1, 2, 4 and 8 projectors with all projections."""
    topic = stage.topic("bench-scale", PARTITIONS)
    stage.work("bench.clients.history", History(topic, EVENTS), Filled)
    found: dict[int, list[Drained]] = {processes: [] for processes in PROCESSES}
    for run in range(stage.runs):
        for processes in PROCESSES:
            found[processes].append(drained(stage, topic, processes, run, EVERYTHING, EVENTS, PARTITIONS))
        said = ", ".join(f"{number}: {EVENTS / runs[-1].seconds:,.0f} rows/s" for number, runs in found.items())
        stage.say(f"projectors_scale, run {run + 1}/{stage.runs}: {said}")
    rates = {number: [EVENTS / one.seconds for one in runs] for number, runs in found.items()}
    cpu = {number: [1e6 * one.cpu_seconds / EVENTS for one in runs] for number, runs in found.items()}
    return [
        absolute("projectors_scale_1", "rows/s", rates[1]),
        *(compared(f"projectors_scale_{n}", "rows/s", rates[n], "1 projector", rates[1]) for n in PROCESSES[1:]),
        absolute("projectors_scale_1_cpu", "us an event", cpu[1]),
        *(compared(f"projectors_scale_{n}_cpu", "us an event", cpu[n], "1 projector", cpu[1]) for n in PROCESSES[1:]),
    ]
