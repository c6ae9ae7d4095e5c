"""Checks that each event is in its user's partition, where the command side and Java clients put it.

A producer with another partitioner or another key scatters a user's events over partitions; so does adding partitions.
Scattered events are ordered by their times instead of by the log (docs/producers.md). No event is lost, but operators
should know.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter

from aiokafka.partitioner import murmur2

from contracts.record import key_of
from contracts.wire.frames import unframed
from projector.consuming.batch import Part
from projector.writing.rows import SEALED, EventRow, KafkaRecord
from telemetry.logs import get_logger
from telemetry.metrics import RECORDS_MISPLACED

SAMPLE_SIZE = 64  # rows of a batch that are checked: all rows of a small batch, a spread sample of a larger one
WARNING_INTERVAL = 60.0  # seconds between two warnings
_offset_of = attrgetter("offset")


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """Returns the partition that Kafka's default partitioner chooses for a key (murmur2, Java's BuiltInPartitioner)."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def misplaced(rows: Sequence[EventRow], partitions: int) -> list[EventRow]:
    """Returns the rows of a sample that are not in their user's partition."""
    step = -(-len(rows) // SAMPLE_SIZE) or 1
    return [
        row
        for row in rows[::step]
        if partition_of(key_of(row.event.tenant_id, row.event.user_id), partitions) != row.partition
    ]


def is_well_sealed(record: KafkaRecord | None, partitions: int) -> bool:
    """Whether a record is of the sealed log, and in the partition of its subject."""
    if record is None or not unframed(record.value or b"").startswith(SEALED):
        return False
    return partition_of(record.key or b"", partitions) == record.partition


def _record_of(row: EventRow, records: Mapping[int, Sequence[KafkaRecord]]) -> KafkaRecord | None:
    """The record of a row, in the records of each partition; None: it is of none of these."""
    of_partition = records.get(row.partition, ())
    at = bisect_left(of_partition, row.offset, key=_offset_of)
    return of_partition[at] if at < len(of_partition) and of_partition[at].offset == row.offset else None


class Placement:
    """Counts and logs the misplaced records of one generation.

    `partitions()` returns the topic's number of partitions; 0 if it is unknown.
    """

    def __init__(self, generation: str, partitions: Callable[[], int]) -> None:
        self._generation, self._partitions = generation, partitions
        self._warned_at = -WARNING_INTERVAL

    def check(self, rows: Sequence[EventRow], part: Part) -> None:
        """Checks the rows of a committed batch, and of the sealed ones the records, whose keys are subjects."""
        partitions = self._partitions()
        found = misplaced(rows, partitions) if partitions else []
        records = {position.partition: each for position, each in part.items()} if found else {}
        found = [row for row in found if not is_well_sealed(_record_of(row, records), partitions)]
        if not found:
            return
        RECORDS_MISPLACED.labels(generation=self._generation).inc(len(found))
        if time.monotonic() - self._warned_at >= WARNING_INTERVAL:
            self._warned_at = time.monotonic()
            get_logger("projector").warning(
                "records_misplaced",
                partition=found[0].partition,
                offset=found[0].offset,
                records=len(found),
                reason="not the partition of the user's key (murmur2); see docs/producers.md",
            )
