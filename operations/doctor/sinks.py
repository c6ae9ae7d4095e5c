"""What can be wrong with sinks: one that stands still, or that nobody runs. What engines do, they say themselves."""

from operations.doctor.findings import Finding, well_unless
from operations.status.report import SinkStatus, standing

STARTED_AGAIN = "See the log of that `footfall sink`; once the cause is gone it goes on, or after a restart."
RUN_IT = "Start `footfall sink` with its settings; a sink that is no longer wanted is forgotten as docs/sinks.md says."
SEE_WHY = "See why with `footfall dlq list --sink ..`; then redrive or discard them."


def sink_findings(sinks: list[SinkStatus]) -> list[Finding]:
    """Returns what is wrong with sinks; nothing if there are none."""
    found = [
        Finding("sinks", "problem", sentence, STARTED_AGAIN)
        for each in sinks
        for sentence in standing(each.name, each.partitions, alone=False)
    ]
    found += [
        Finding("sinks", "warning", f"Nobody runs {each.name}, which is {lag_of(each):,} events behind.", RUN_IT)
        for each in sinks
        if lag_of(each) and all(partition.state == "unowned" for partition in each.partitions)
    ]
    found += [
        Finding(
            "sinks",
            "warning",
            f"{each.parked:,} dead letters of {each.name} wait.",
            SEE_WHY,
        )
        for each in sinks
        if each.parked
    ]
    says = "; ".join(f"{each.name} is {lag_of(each):,} events behind" for each in sinks)
    return well_unless("sinks", found, f"{says}.") if sinks else []


def lag_of(sink: SinkStatus) -> int:
    """Returns how many events a sink is behind."""
    return sum(partition.lag for partition in sink.partitions)
