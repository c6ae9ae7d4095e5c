"""An archive that a projector reads as it reads Kafka: the part of aiokafka's consumer that its loop uses."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from operations.archive.files.reading import Records
from projector.consuming.topic_metadata import TopicMetadata
from projector.generations.history import PartitionLog, Verdict, compare
from projector.writing.checkpoints import StoredCheckpoint


class _Partition:
    """Where one partition is read."""

    def __init__(self, records: Records, partition: int, offset: int) -> None:
        self._records, self._places, self._offset = records, records.places(partition, offset), offset
        self._waiting: list[ConsumerRecord] = []
        self._loading: asyncio.Task[list[ConsumerRecord]] | None = None

    def begin(self) -> asyncio.Task[list[ConsumerRecord]] | None:
        """Loads the next block in the background, unless records wait or none is left; returns what loads."""
        if self._loading is None and not self._waiting:
            place = next(self._places, None)
            if place is not None:
                self._loading = asyncio.create_task(asyncio.to_thread(self._records.load, place))
                self._loading.add_done_callback(_seen)
        return self._loading

    def take(self, count: int) -> list[ConsumerRecord]:
        """Returns at most `count` of the records that are loaded."""
        if self._loading is not None and self._loading.done():
            loaded, self._loading = self._loading.result(), None
            self._waiting = [record for record in loaded if record.offset >= self._offset]
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken


def _seen(loading: asyncio.Task[list[ConsumerRecord]]) -> None:
    """Looks at a failure: of several that fail at a time, only the first is raised, and asyncio prints the others."""
    if not loading.cancelled():
        loading.exception()


class ArchiveConsumer:
    """Reads the archived records of one topic. It is a group's only member, and holds every partition."""

    def __init__(self, records: Records, topic: str) -> None:
        self._records, self._topic = records, topic
        self._partitions = sorted(records.manifest.spans)
        self._at: dict[TopicPartition, _Partition] = {}
        self._assigning: asyncio.Task[None] | None = None

    def subscribe(self, _topics: Iterable[str], listener: Any) -> None:
        """Assigns every partition that the archive has."""
        self._assigning = asyncio.create_task(
            listener.on_partitions_assigned([TopicPartition(self._topic, each) for each in self._partitions])
        )

    def partitions_for_topic(self, _topic: str) -> set[int]:
        """Returns the partitions that the archive has."""
        return set(self._partitions)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Reads a partition from this offset on."""
        self._at[tp] = _Partition(self._records, tp.partition, offset)

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Returns records of the partitions that have some left; waits as long as told if there is none.

        A fetch that is given up takes nothing, as with aiokafka: it waits before it takes the first record, never
        between two. What it began to load is there for the next one, so that a slow place is read, too.
        """
        loading = [task for tp in partitions if tp in self._at and (task := self._at[tp].begin())]
        found = self._taken(partitions, max_records or 1)
        if found:
            return found
        if loading:
            await asyncio.wait(loading, timeout=timeout_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(timeout_ms / 1000)
        return self._taken(partitions, max_records or 1)

    def _taken(self, partitions: Iterable[TopicPartition], room: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        found: dict[TopicPartition, list[ConsumerRecord]] = {}
        for tp in partitions:
            records = self._at[tp].take(room) if room and tp in self._at else []
            if records:
                found[tp] = records
                room -= len(records)
        return found

    async def commit(self, _offsets: Mapping[TopicPartition, int]) -> None:
        """Does nothing: no lag tool looks at an archive."""

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Returns the first offsets."""
        return {tp: self._records.manifest.spans[tp.partition][0] for tp in partitions}

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Returns the offsets after the last ones."""
        return {tp: self._records.manifest.spans[tp.partition][1] for tp in partitions}


class ArchiveHistory:
    """Compares checkpoints with the archive, as `HistoryCheck` compares them with Kafka's log."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def metadata(self) -> TopicMetadata:
        """Returns the topic's id, as the archive has it."""
        manifest = self._records.manifest
        return TopicMetadata(manifest.topic_id, dict.fromkeys(manifest.spans, 0))

    async def verdicts(self, stored: Mapping[int, StoredCheckpoint], topic_id: UUID | None) -> dict[int, Verdict]:
        """Returns a verdict on the checkpoint of each partition."""
        return {partition: await self._verdict(partition, one, topic_id) for partition, one in stored.items()}

    async def _verdict(self, partition: int, stored: StoredCheckpoint, topic_id: UUID | None) -> Verdict:
        begin, end = self._records.manifest.spans[partition]
        log = PartitionLog(topic_id, begin, end)
        if stored.proof_offset is not None:
            async for record in self._records.after(partition, stored.proof_offset):
                if record.offset == stored.proof_offset:
                    log = PartitionLog(topic_id, begin, end, record)
                break
        return compare(stored, log)
