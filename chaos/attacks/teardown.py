"""Ends a round: repairs everything, waits until all accepted events are projected, and runs the checker."""

import asyncio
import time
from collections.abc import Sequence

import msgspec

from chaos.attacks import nemesis
from chaos.checking import reading
from chaos.checking.compare import Findings, check
from chaos.stand.cluster import Cluster

GENERATION = "read_g1"
READY_WITHIN = 60.0  # seconds until broker and PostgreSQL answer again
SETTLED_WITHIN = 90.0  # seconds until the checkpoints are at the end of the log


class Verdict(msgspec.Struct):
    """The result of a round. `settle_seconds`: from the end of the last fault until everything was projected."""

    acknowledged: int
    unknown: int
    records: int
    rows: int
    fenced: int
    settle_seconds: float
    findings: dict[str, int]
    examples: dict[str, list[str]]


def begin(cluster: Cluster, events: int = 50) -> None:
    """Starts all roles; returns once `events` commands are accepted and a projector owns partitions."""
    cluster.wait_until(cluster.acknowledged_more(events), 60.0, "the first commands to be accepted")
    cluster.wait_until(lambda: cluster.logged("partitions_claimed") > 0, 60.0, "a projector to claim partitions")


def finish(
    cluster: Cluster, *, standstill: float = SETTLED_WITHIN, generations: Sequence[str] = (GENERATION,)
) -> list[Verdict]:
    """Repairs everything, waits until the system is at rest, and runs the checker for each generation.

    Args:
        cluster: The cluster.
        standstill: Seconds without progress after which it counts as at rest, even before the end of the log.
        generations: The generations to check.
    """
    nemesis.mend(cluster)
    started = time.monotonic()
    cluster.end("load")
    cluster.wait_until(lambda: _answers(cluster), READY_WITHIN, "broker and PostgreSQL to answer")
    cluster.wait(1.0)  # lets the command side publish what is still pending
    cluster.end("command", "query", "projector-3")
    _come_to_rest(cluster, standstill, generations)
    settled = time.monotonic() - started
    cluster.end("projector-1", "projector-2")
    return [verdict(cluster, settled, name) for name in generations]


def _come_to_rest(cluster: Cluster, standstill: float, generations: Sequence[str]) -> None:
    deadline = time.monotonic() + SETTLED_WITHIN
    moved_at, before = time.monotonic(), None
    while time.monotonic() < min(deadline, moved_at + standstill):
        lags = [asyncio.run(_lag(cluster, generation)) for generation in generations]
        if not any(lags) and None not in lags:
            return
        if lags != before:
            moved_at, before = time.monotonic(), lags
        cluster.wait(0.1)


def verdict(cluster: Cluster, settled: float, generation: str) -> Verdict:
    """Runs the checker. The system must be at rest."""
    servers = cluster.servers
    url = servers.url("owner", cluster.database)
    evidence = asyncio.run(reading.evidence(servers.kafka, cluster.topic, url, cluster.history, generation))
    found: Findings = check(evidence)
    outcomes = [operation.outcome for operation in evidence.operations]
    return Verdict(
        acknowledged=outcomes.count("ok"),
        unknown=outcomes.count("info"),
        records=len(evidence.records),
        rows=len(evidence.rows["processed_events"]),
        fenced=cluster.logged("batch_fenced"),
        settle_seconds=round(settled, 1),
        findings=dict(found.counts),
        examples=dict(found.examples),
    )


def _answers(cluster: Cluster) -> bool:
    return cluster.servers.in_service() and cluster.runs("postgres") and _connects(cluster)


def _connects(cluster: Cluster) -> bool:
    try:
        reading.value(cluster.servers.url("owner", cluster.database), "SELECT 1")
    except (OSError, reading.PostgresError):
        return False
    return True


async def _lag(cluster: Cluster, generation: str) -> int | None:
    try:
        url = cluster.servers.url("owner", cluster.database)
        return await reading.lag(cluster.servers.kafka, cluster.topic, url, generation)
    except (OSError, reading.PostgresError, reading.KafkaError):
        return None
