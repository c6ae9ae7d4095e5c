"""`footfall archive run`: archives what the topic has and the archive has not."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord

from operations.archive.files.digests import digest
from operations.archive.files.entries import Entry
from operations.archive.files.manifest import Manifest, checked_manifest
from operations.archive.files.refusal import ArchiveError
from operations.archive.files.stores import Store
from operations.archive.writing import NewFile, Source, Writer, day_of
from operations.rewrite.reading import Reader
from operations.settings import ArchiveSettings
from projector.consuming.fetch import UNREADABLE
from projector.consuming.log_probe import COMMAND_TIMEOUT_MS, LogProbe
from projector.generations.history import HistoryCheck

OnProgress = Callable[[int, int], None]  # how many offsets are archived, of how many

LOOK_PATIENCE = 20.0  # seconds to read the last records that the archive has
TELL_EVERY = 10_000  # records
CLIENT = "footfall-archive"
LEFT = "What runs that were killed have left stays; it is no part of the archive."


class Ran(msgspec.Struct, frozen=True, rename="camel"):
    """What a run did. `problems`: a sentence for each partition that was not archived. `notes`: what does no harm."""

    place: str
    records: int
    files: int
    bytes: int
    spans: Mapping[int, tuple[int, int]]
    entries: int
    head: str
    removed: int
    problems: list[str]
    notes: list[str]


class Log:
    """The topic as Kafka has it now."""

    def __init__(self, settings: ArchiveSettings, probe: LogProbe, histories: HistoryCheck) -> None:
        self.topic = settings.kafka_topic
        self.reader = Reader(settings.client_options(), CLIENT)
        self._probe, self._histories = probe, histories

    async def source(self) -> Source:
        """Returns what an archive of the topic is of, now. Raises KafkaError, and ArchiveError without the topic."""
        if not await self._probe.partitions_of(self.topic):
            raise ArchiveError(f"Kafka has no topic {self.topic}. Does KAFKA_TOPIC name the right one?")
        return Source(self.topic, (await self._histories.metadata()).topic_id)

    async def spans(self) -> dict[int, tuple[int, int]]:
        """Returns the offsets of each partition, up to the oldest open transaction."""
        ends = (await self.reader.reach(self.topic)).stable
        begins = await self._probe.beginnings([TopicPartition(self.topic, partition) for partition in ends])
        return {partition: (begins[TopicPartition(self.topic, partition)], end) for partition, end in ends.items()}

    async def first_records(self, offsets: Mapping[int, int]) -> dict[int, ConsumerRecord]:
        """Returns the first record at or after each offset."""
        wanted = {TopicPartition(self.topic, partition): offset for partition, offset in offsets.items()}
        found = await self._probe.first_records(wanted, LOOK_PATIENCE)
        return {tp.partition: record for tp, record in found.items()}


@asynccontextmanager
async def looking(settings: ArchiveSettings) -> AsyncIterator[Log]:
    """Yields the topic, and closes the connections afterwards."""
    probe = LogProbe(settings.client_options(), CLIENT, COMMAND_TIMEOUT_MS)
    histories = HistoryCheck(settings.client_options(), settings.kafka_topic, CLIENT, COMMAND_TIMEOUT_MS)
    try:
        yield Log(settings, probe, histories)
    finally:
        await histories.close()
        await probe.close()


def foreign(manifest: Manifest, source: Source, place: str) -> str | None:
    """Says why an archive is not that of this topic; None: it is."""
    if not manifest.entries:
        return None
    first = manifest.entries[0]
    if (first.topic, first.topic_id) == (source.topic, source.topic_id):
        return None
    return (
        f"The archive at {place} is of topic {first.topic} with the id {first.topic_id}, and Kafka has {source.topic} "
        f"with the id {source.topic_id}: another topic, one that was made anew, or one that was rewritten."
    )


async def run(settings: ArchiveSettings, store: Store, on_progress: OnProgress) -> Ran:
    """Archives every record up to where the topic ends now.

    A partition that cannot be archived without a gap is left as it is, and named.

    Raises:
        ArchiveError: The archive is not whole, not of this topic, or cannot be used.
        KafkaError: Kafka cannot be used.
    """
    manifest = await asyncio.to_thread(checked_manifest, store)
    if not manifest.entries:
        await asyncio.to_thread(store.check_exclusive)
    async with looking(settings) as log:
        source = await log.source()
        why = foreign(manifest, source, store.place)
        if why is not None:
            raise ArchiveError(f"{why} Archive into another place.")
        return await _Run(settings, store, manifest, log, source, on_progress).all()


class _Run:
    def __init__(
        self,
        settings: ArchiveSettings,
        store: Store,
        manifest: Manifest,
        log: Log,
        source: Source,
        on_progress: OnProgress,
    ) -> None:
        self._settings, self._store, self._log, self._source = settings, store, log, source
        self._manifest, self._writer = manifest, Writer(store, manifest, source)
        self._on_progress, self._passed, self._total = on_progress, 0, 0
        self._problems: list[str] = []
        self._unreadable: set[int] = set()  # partitions with bytes that nobody can read

    async def all(self) -> Ran:
        """Archives every partition."""
        found, last = await self._log.spans(), self._manifest.last
        todo = {
            partition: (last[partition].end if partition in last else begin, end)
            for partition, (begin, end) in found.items()
            if await self._continues(partition, last.get(partition), (begin, end))
        }
        self._total = sum(end - begin for begin, end in todo.values())
        for partition, (begin, end) in sorted(todo.items()):
            try:
                await self._partition(partition, begin, end)
            except OffsetOutOfRangeError:
                self._problems.append(_trimmed(partition, begin, None))
        return self._told(*await self._without_leftovers())

    async def _without_leftovers(self) -> tuple[int, list[str]]:
        """Removes what killed runs left: how many files, and why not. What was archived is whole all the same."""
        try:
            return await asyncio.to_thread(self._writer.remove_leftovers), []
        except ArchiveError as error:
            return 0, [f"{LEFT} {error}"]

    async def _continues(self, partition: int, last: Entry | None, span: tuple[int, int]) -> bool:
        """Returns whether the partition's log goes on where the archive ends."""
        if last is None:
            return True
        (begin, end), written = span, self._manifest.last_with_records.get(partition)
        if end < last.end:
            self._problems.append(_cut(partition, last.end, end))
        elif begin > last.end:
            self._problems.append(_trimmed(partition, last.end, begin))
        elif written is not None and begin <= written.last and not await self._has(partition, written):
            self._problems.append(_differs(partition, written.last))
        else:
            return True
        return False

    async def _has(self, partition: int, last: Entry) -> bool:
        record = (await self._log.first_records({partition: last.last})).get(partition)
        return record is not None and digest(record) == last.last_record

    async def _partition(self, partition: int, begin: int, end: int) -> None:
        file: NewFile | None = None
        async for record in self._records(partition, begin, end):
            if file is not None and self._is_full(file, record):
                await self._publish(file, record.offset)
                begin, file = record.offset, None
            if file is None:
                file = await asyncio.to_thread(self._writer.begin, begin, record)
            file.add(record)
            self._passed += 1
            if self._passed % TELL_EVERY == 0:
                self._on_progress(self._passed, self._total)
        if file is not None:
            unreadable = partition in self._unreadable
            await self._publish(file, file.last.offset + 1 if unreadable else end)
        elif begin < end and partition not in self._unreadable:
            await self._check_topic()
            await self._writer.cover(partition, begin, end)

    async def _records(self, partition: int, begin: int, end: int) -> AsyncIterator[ConsumerRecord]:
        """Yields the records that can be read; a producer's whole batch cannot, or all of it can."""
        try:
            async for record in self._log.reader.records(self._source.topic, partition, begin, end, all_of_them=True):
                begin = record.offset
                yield record
        except UNREADABLE as error:
            self._unreadable.add(partition)
            self._problems.append(_unreadable(partition, begin, type(error).__name__))

    def _is_full(self, file: NewFile, record: ConsumerRecord) -> bool:
        """A file ends with its day; records that come late stay in the file of a later day."""
        settings = self._settings
        full = file.count >= settings.archive_file_records or file.bytes >= settings.archive_file_bytes
        return full or day_of(record) > file.day

    async def _publish(self, file: NewFile, end: int) -> None:
        await self._check_topic()
        await self._writer.publish(file, end)

    async def _check_topic(self) -> None:
        if await self._log.source() != self._source:
            raise ArchiveError(f"{self._source.topic} was made anew meanwhile. What was archived before is whole.")

    def _told(self, removed: int, notes: list[str]) -> Ran:
        written, writer = self._writer.written, self._writer
        now = Manifest([*self._manifest.entries, *written], writer.head)
        return Ran(
            self._store.place,
            sum(entry.count for entry in written),
            sum(bool(entry.file) for entry in written),
            sum(entry.bytes for entry in written),
            now.spans,
            writer.number,
            writer.head,
            removed,
            self._problems,
            notes,
        )


def _cut(partition: int, archived: int, end: int) -> str:
    return (
        f"Partition {partition} of the topic ends at {end}, and the archive at {archived}: the topic lost its end. The "
        "archive has what it lost, and cannot go on in this place. Archive into another one."
    )


def _trimmed(partition: int, archived: int, begin: int | None) -> str:
    gone = f"offsets {archived} to {begin - 1}" if begin is not None else f"offset {archived} and what follows"
    return (
        f"Partition {partition} of the topic no longer holds {gone}, which were not archived. The archive never has a "
        "gap: archive into another place, more often than the topic forgets."
    )


def _unreadable(partition: int, offset: int, error: str) -> str:
    return (
        f"Partition {partition} of the topic cannot be read beyond about offset {offset} ({error}), so it is archived "
        "up to there at most. Projectors stop at the same place. See docs/stops.md"
    )


def _differs(partition: int, offset: int) -> str:
    return (
        f"Partition {partition} of the topic has another record at offset {offset} than the archive: the topic lost "
        "its end and was written again. Archive into another place."
    )
