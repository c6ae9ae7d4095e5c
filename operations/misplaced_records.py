"""Counts recent events that are not in the partition of their user (docs/producers.md)."""

from collections import Counter
from collections.abc import Sequence

import asyncpg
import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from contracts.record import key_of
from projector.consuming.log_probe import LogProbe
from projector.consuming.placement import is_well_sealed, partition_of

LATEST_OF_EACH = 100  # newest events that are checked in each partition
PATIENCE = 5.0  # seconds for the log's word
LATEST = f"""
SELECT latest.* FROM unnest($1::int[]) AS wanted(partition) CROSS JOIN LATERAL (
    SELECT tenant_id, user_id, kafka_partition, kafka_offset FROM read.processed_events
    WHERE kafka_partition = wanted.partition ORDER BY kafka_offset DESC LIMIT {LATEST_OF_EACH}
) AS latest
"""  # noqa: S608 - composed of constants


class Misplaced(msgspec.Struct, frozen=True):
    """`latest`: how many events were checked. `misplaced`: how many of them are in another partition."""

    latest: int
    misplaced: int

    def sentence(self) -> str | None:
        """Returns a warning for the operator, or None if no event is misplaced."""
        if not self.misplaced:
            return None
        return (
            f"{self.misplaced:,} of the latest {self.latest:,} events are not in their user's partition: partitions "
            "were added, or a producer has another partitioner or key; their order is that of their times "
            "(docs/producers.md)."
        )


async def count_misplaced(
    connection: asyncpg.Connection, probe: LogProbe, topic: str, partitions: Sequence[int]
) -> Misplaced:
    """Checks the newest events of each partition, as the active generation stores them.

    A row does not say whether its event was sealed, and so has its subject's place: the log tells, of the newest one of
    each partition that seems misplaced.
    """
    rows = await connection.fetch(LATEST, list(partitions))
    count = len(partitions)
    newest: dict[TopicPartition, int] = {}
    found: Counter[int] = Counter()
    for row in rows:
        partition = row["kafka_partition"]
        if partition_of(key_of(row["tenant_id"], row["user_id"]), count) != partition:
            found[partition] += 1
            newest.setdefault(TopicPartition(topic, partition), row["kafka_offset"])
    try:
        records = await probe.first_records(newest, PATIENCE)
    except (TimeoutError, OffsetOutOfRangeError):  # whether those were sealed is not known: they were not checked
        return Misplaced(len(rows) - found.total(), 0)
    sealed = {place.partition for place, record in records.items() if is_well_sealed(record, count)}
    return Misplaced(len(rows), sum(number for partition, number in found.items() if partition not in sealed))
