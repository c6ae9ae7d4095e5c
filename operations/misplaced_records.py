"""How many of the latest events lie in another partition than their user's (docs/producers.md)."""

from collections.abc import Sequence

import asyncpg
import msgspec

from contracts.record import key_of
from projector.consuming.placement import partition_of

LATEST_OF_EACH = 100  # events of each partition that are looked at
LATEST = f"""
SELECT latest.* FROM unnest($1::int[]) AS wanted(partition) CROSS JOIN LATERAL (
    SELECT tenant_id, user_id, kafka_partition FROM read.processed_events
    WHERE kafka_partition = wanted.partition ORDER BY kafka_offset DESC LIMIT {LATEST_OF_EACH}
) AS latest
"""  # noqa: S608 - composed of constants


class Misplaced(msgspec.Struct, frozen=True):
    """Of the `latest` events looked at, how many are `misplaced`."""

    latest: int
    misplaced: int

    def sentence(self) -> str | None:
        """What an operator should know, if anything."""
        if not self.misplaced:
            return None
        return (
            f"{self.misplaced:,} of the latest {self.latest:,} events are not in their user's partition: partitions "
            "were added, or a producer has another partitioner or key; their order is that of their times "
            "(docs/producers.md)."
        )


async def look(connection: asyncpg.Connection, partitions: Sequence[int]) -> Misplaced:
    """At the latest events of each partition, as the active generation has them."""
    rows = await connection.fetch(LATEST, list(partitions))
    count = len(partitions)
    found = sum(partition_of(key_of(row["tenant_id"], row["user_id"]), count) != row["kafka_partition"] for row in rows)
    return Misplaced(len(rows), found)
