"""Metrics of a run, as a file for the node exporter's textfile collector: no process stays to be asked."""

from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from operations.archive.running import Ran


def write_metrics(file: Path, ran: Ran) -> None:
    """Replaces the file, at once. Raises OSError."""
    registry = CollectorRegistry()
    ended = Gauge(
        "archive_last_run_timestamp_seconds", "When a run last ended, in seconds since 1970.", registry=registry
    )
    ended.set_to_current_time()
    refused = Gauge(
        "archive_partitions_refused", "Partitions that could not be archived without a gap.", registry=registry
    )
    refused.set(len(ran.problems))
    ends = Gauge("archive_end_offset", "The next offset that will be archived.", ["partition"], registry=registry)
    for partition, (_, end) in ran.spans.items():
        ends.labels(partition=partition).set(end)
    write_to_textfile(str(file), registry)
