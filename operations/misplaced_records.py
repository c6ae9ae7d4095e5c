"""Counts recent events that are not in the partition of their user (docs/producers.md)."""

from collections.abc import Sequence

import asyncpg
import msgspec

from contracts.record import key_of
from projector.consuming.placement import partition_of

LATEST_OF_EACH = 100  # newest events that are checked in each partition
LATEST = f"""
SELECT latest.* FROM unnest($1::int[]) AS wanted(partition) CROSS JOIN LATERAL (
    SELECT tenant_id, user_id, kafka_partition FROM read.processed_events
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


async def count_misplaced(connection: asyncpg.Connection, partitions: Sequence[int]) -> Misplaced:
    """Checks the newest events of each partition, as the active generation stores them."""
    rows = await connection.fetch(LATEST, list(partitions))
    count = len(partitions)
    found = sum(partition_of(key_of(row["tenant_id"], row["user_id"]), count) != row["kafka_partition"] for row in rows)
    return Misplaced(len(rows), found)
