"""After the harm: everything is mended, what was accepted is projected, and the checker looks."""

import asyncio
import time
from collections.abc import Sequence

import msgspec

from chaos import nemesis, reading
from chaos.cluster import Cast
from chaos.compare import Findings, check
from footfall.local.embedded.kafka.broker import is_in_service

GENERATION = "read_g1"
READY_WITHIN = 60.0  # seconds until broker and PostgreSQL answer again
SETTLED_WITHIN = 90.0  # seconds until the checkpoints are at the end of the log


class Verdict(msgspec.Struct):
    """What a round amounts to. `settle_seconds`: from the last harm mended until everything was projected."""

    acknowledged: int
    unknown: int
    records: int
    rows: int
    fenced: int
    settle_seconds: float
    findings: dict[str, int]
    examples: dict[str, list[str]]


def begin(cast: Cast, events: int = 50) -> None:
    """Starts everybody; returns when the first events have been accepted and projected."""
    cast.wait_until(cast.acknowledged_more(events), 60.0, "the first commands to be accepted")
    cast.wait_until(lambda: cast.logged("partitions_claimed") > 0, 60.0, "a projector to claim partitions")


def finish(
    cast: Cast, *, standstill: float = SETTLED_WITHIN, generations: Sequence[str] = (GENERATION,)
) -> list[Verdict]:
    """Mends, lets the system come to rest, and compares: a verdict for each of the generations.

    It is at rest when the checkpoints are at the end of the log, or have not moved for `standstill` seconds.
    """
    nemesis.mend(cast)
    started = time.monotonic()
    cast.end("load")
    cast.wait_until(lambda: _answers(cast), READY_WITHIN, "broker and PostgreSQL to answer")
    cast.wait(1.0)  # what the command side still holds may land
    cast.end("command", "query", "projector-3")
    _come_to_rest(cast, standstill, generations)
    settled = time.monotonic() - started
    cast.end("projector-1", "projector-2")
    return [verdict(cast, settled, name) for name in generations]


def _come_to_rest(cast: Cast, standstill: float, generations: Sequence[str]) -> None:
    deadline = time.monotonic() + SETTLED_WITHIN
    moved_at, before = time.monotonic(), None
    while time.monotonic() < min(deadline, moved_at + standstill):
        lags = [asyncio.run(_lag(cast, generation)) for generation in generations]
        if not any(lags) and None not in lags:
            return
        if lags != before:
            moved_at, before = time.monotonic(), lags
        cast.wait(0.1)


def verdict(cast: Cast, settled: float, generation: str) -> Verdict:
    """Compares, everybody at rest."""
    servers = cast.servers
    url = servers.url("owner", cast.database)
    evidence = asyncio.run(reading.evidence(servers.kafka, cast.topic, url, cast.history, generation))
    found: Findings = check(evidence)
    outcomes = [operation.outcome for operation in evidence.operations]
    return Verdict(
        acknowledged=outcomes.count("ok"),
        unknown=outcomes.count("info"),
        records=len(evidence.records),
        rows=len(evidence.rows["processed_events"]),
        fenced=cast.logged("batch_fenced"),
        settle_seconds=round(settled, 1),
        findings=dict(found.counts),
        examples=dict(found.examples),
    )


def _answers(cast: Cast) -> bool:
    return is_in_service(int(cast.servers.kafka.rpartition(":")[2])) and cast.runs("postgres") and _connects(cast)


def _connects(cast: Cast) -> bool:
    try:
        reading.value(cast.servers.url("owner", cast.database), "SELECT 1")
    except (OSError, reading.PostgresError):
        return False
    return True


async def _lag(cast: Cast, generation: str) -> int | None:
    try:
        url = cast.servers.url("owner", cast.database)
        return await reading.lag(cast.servers.kafka, cast.topic, url, generation)
    except (OSError, reading.PostgresError, reading.KafkaError):
        return None
