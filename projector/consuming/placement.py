"""Whether events lie in the partition of their user, where Java's clients and the command side put them.

A producer with another partitioner, or with another key, and partitions that were added, scatter a user's events: their
order is then that of their times, not the log's (docs/producers.md). Nothing is lost, but it should be known.
"""

import time
from collections.abc import Callable, Sequence
from functools import lru_cache

from aiokafka.partitioner import murmur2

from contracts.record import key_of
from projector.writing.rows import EventRow
from telemetry.logs import get_logger
from telemetry.metrics import RECORDS_MISPLACED

LOOKS = 64  # rows of a batch that are looked at: all of a small one, of a larger one so many, spread over it
WARNING_INTERVAL = 60.0  # seconds


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """Where Kafka's default partitioner puts a key: murmur2, as every Java client does (BuiltInPartitioner)."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def misplaced(rows: Sequence[EventRow], partitions: int) -> list[EventRow]:
    """Those of the rows looked at that lie elsewhere."""
    step = -(-len(rows) // LOOKS) or 1
    return [
        row
        for row in rows[::step]
        if partition_of(key_of(row.event.tenant_id, row.event.user_id), partitions) != row.partition
    ]


class Placement:
    """Counts and tells of misplaced records of one generation. `partitions()`: how many there are; 0: not known."""

    def __init__(self, generation: str, partitions: Callable[[], int]) -> None:
        self._generation, self._partitions = generation, partitions
        self._told_at = -WARNING_INTERVAL

    def look(self, rows: Sequence[EventRow]) -> None:
        """Looks at the rows of a committed batch."""
        partitions = self._partitions()
        found = misplaced(rows, partitions) if partitions else []
        if not found:
            return
        RECORDS_MISPLACED.labels(generation=self._generation).inc(len(found))
        if time.monotonic() - self._told_at >= WARNING_INTERVAL:
            self._told_at = time.monotonic()
            get_logger("projector").warning(
                "records_misplaced",
                partition=found[0].partition,
                offset=found[0].offset,
                records=len(found),
                reason="not the partition of the user's key (murmur2); see docs/producers.md",
            )
