"""Whether an archive has the markers of each erasure in every partition; where one lacks, the users are still there.

A partition that could not be archived any more, or a run that was killed, leaves an archive with some markers only.
"""

from collections import defaultdict
from uuid import UUID

import asyncpg

from contracts.erasure import erasure_of, sealed_erasure_of
from operations.archive.files.manifest import Manifest
from operations.rewrite.substitutes import HOUR_MS, SourceRecord
from read_model.generations.histories import UNNAMED

APPLIED = "SELECT erasure_id, partition, kafka_offset FROM ops.erasures WHERE topic = $1 AND topic_id = $2"


class Coverage:
    """What was met of records and markers, by partition. Times are Kafka's, in ms."""

    def __init__(self) -> None:
        self._oldest: dict[int, int] = {}  # record
        self._markers: dict[UUID, dict[int, int]] = defaultdict(dict)  # by erasure and partition
        self._replaced: dict[int, list[int]] = defaultdict(list)  # markers under other ids, whose time is an hour's

    def add(self, record: SourceRecord, *, was_replaced: bool) -> None:
        """Looks at one record."""
        sealed = sealed_erasure_of(record.value)
        erasure = sealed[0] if sealed is not None else erasure_of(record.value)
        if erasure is None:
            self._oldest[record.partition] = min(record.timestamp, self._oldest.get(record.partition, record.timestamp))
        elif was_replaced:
            self._replaced[record.partition].append(record.timestamp)
        else:
            self._markers[erasure.erasure_id][record.partition] = record.timestamp

    def problems(self) -> list[str]:
        """Returns a sentence for each partition that has records from before an erasure, and no marker of it."""
        lacking = {partition: self._lacking(partition) for partition in sorted(self._oldest)}
        return [
            f"Partition {partition} of the archive has records from before {count:,} erasures, and not their markers: "
            "users may still be there. Archive what is new, and rewrite again; a partition that cannot be archived any "
            "more keeps them until you delete the archive."
            for partition, count in lacking.items()
            if count
        ]

    def _lacking(self, partition: int) -> int:
        erased_at = [min(each.values()) for each in self._markers.values() if partition not in each]
        return sum(
            self._oldest[partition] < moment and not self._has_replaced(partition, moment) for moment in erased_at
        )

    def _has_replaced(self, partition: int, moment: int) -> bool:
        return any(abs(moment - moment % HOUR_MS - hour) <= HOUR_MS for hour in self._replaced[partition])


async def newer_erasures(connection: asyncpg.Connection, manifest: Manifest) -> list[str]:
    """Returns a sentence if projectors have applied erasures that the archive does not reach."""
    spans = manifest.spans
    reached: dict[UUID, bool] = {}
    log = manifest.entries[0].topic, manifest.topic_id or UNNAMED  # None: its brokers give no ids
    for erasure_id, partition, offset in await connection.fetch(APPLIED, *log):
        is_there = partition in spans and offset < spans[partition][1]
        reached[erasure_id] = reached.get(erasure_id, False) or is_there
    newer = sum(not is_there for is_there in reached.values())
    if not newer:
        return []
    words = f"{newer:,} erasures are newer than the archive, and their users are still in it."
    return [f"{words} Archive what is new, and rewrite again: footfall archive run"]
