"""Writes one file and its entry: the file is published first, the entry makes it a part of the archive."""

import asyncio
import contextlib
import hashlib
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec
from aiokafka.structs import ConsumerRecord

from operations.archive.files.digests import digest
from operations.archive.files.entries import FORMAT, REPLACING, Entry, Replaced, encoded, hash_of, hash_of_blocks
from operations.archive.files.manifest import Manifest
from operations.archive.files.record_files import RecordFile
from operations.archive.files.refusal import ArchiveError
from operations.archive.files.stores import STAGING, Store, at_place
from projector.failpoints import reached

DATA = "records/"
AT_ONCE = 1024 * 1024  # bytes

_number = re.compile(r"[^/]*/(?:.*/)?(?P<number>[0-9]{12})[^/]*").fullmatch


class Source(msgspec.Struct, frozen=True):
    """What an archive is of."""

    topic: str
    topic_id: UUID | None


def day_of(record: ConsumerRecord) -> str:
    """Returns the day of a record in UTC, by Kafka's timestamp."""
    try:
        return f"{datetime.fromtimestamp(record.timestamp / 1000, UTC):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        return "unknown"


class NewFile:
    """One file that is being written. It holds records of one partition, from `begin` on."""

    def __init__(self, store: Store, number: int, begin: int, first: ConsumerRecord) -> None:
        self.begin, self.day, self.first = begin, day_of(first), first
        folder = f"{DATA}topic_partition={first.partition}/day={self.day}/"
        self.name = f"{folder}{number:012d}-{first.offset:020d}-{secrets.token_hex(4)}.parquet"
        self.path = store.new_file(self.name)
        self.number = number
        with at_place(store.place):
            self._file = RecordFile(self.path)
        self.last = first
        self.count = 0

    def add(self, record: ConsumerRecord) -> None:
        """Adds a record."""
        try:
            self._file.add(record)
        except OSError as error:  # such as a full disk
            raise ArchiveError(f"{self.path} cannot be written: {error.strerror or error}.") from error
        self.last = record
        self.count += 1

    @property
    def bytes(self) -> int:
        """Bytes of keys and values so far."""
        return self._file.bytes

    def close(self) -> None:
        """Ends the file."""
        self._file.close()

    def entry(self, source: Source, end: int, previous: str) -> Entry:
        """Returns the file's entry; it covers the offsets up to `end`."""
        return Entry(
            format=FORMAT,
            number=self.number,
            previous=previous,
            topic=source.topic,
            topic_id=source.topic_id,
            partition=self.first.partition,
            begin=self.begin,
            end=end,
            first=self.first.offset,
            last=self.last.offset,
            count=self.count,
            day=self.day,
            file=self.name,
            bytes=self.path.stat().st_size,
            sha256=file_hash(self.path),
            records=hash_of_blocks(self._file.blocks),
            last_record=digest(self.last),
            blocks=self._file.blocks,
            written_at=now(),
        )


def now() -> str:
    """Returns the time, as entries tell it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def file_hash(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Writer:
    """Appends files to an archive, one after another."""

    def __init__(self, store: Store, manifest: Manifest, source: Source) -> None:
        self._store, self._source = store, source
        self._number, self.head = manifest.number, manifest.head
        self._files = {entry.file for entry in manifest.current}
        self.written: list[Entry] = []

    @property
    def number(self) -> int:
        """The number of the last entry."""
        return self._number

    def begin(self, begin: int, first: ConsumerRecord) -> NewFile:
        """Begins a file that covers the offsets from `begin` on."""
        return NewFile(self._store, self._number + 1, begin, first)

    async def cover(self, partition: int, begin: int, end: int) -> Entry:
        """Covers offsets that have no record. Raises ArchiveError as `publish`."""
        entry = Entry(
            format=FORMAT,
            number=self._number + 1,
            previous=self.head,
            topic=self._source.topic,
            topic_id=self._source.topic_id,
            partition=partition,
            begin=begin,
            end=end,
            first=begin,
            last=begin - 1,
            count=0,
            day="",
            file="",
            bytes=0,
            sha256="",
            records=hash_of_blocks([]),
            last_record="",
            blocks=[],
            written_at=now(),
        )
        return await self._enter(entry)

    async def publish(self, file: NewFile, end: int) -> Entry:
        """Makes a file that covers the offsets up to `end` a part of the archive.

        Raises:
            ArchiveError: Somebody else writes into the archive, or the place cannot be used.
        """
        return await self._publish(file, await self._closed(file, end))

    async def replace(self, file: NewFile, old: Entry, why: Replaced) -> Entry:
        """Makes a file stand for that of another entry, and then removes the other file. Raises as `publish`."""
        entry = await self._closed(file, old.end)
        told = msgspec.structs.replace(entry, format=REPLACING, last_record=old.last_record, replaces=why)
        entered = await self._publish(file, told)
        self._files.discard(old.file)
        await asyncio.to_thread(self._store.remove, old.file)
        return entered

    async def _closed(self, file: NewFile, end: int) -> Entry:
        with at_place(self._store.place):  # another run may have removed the file: its number was taken
            file.close()
            return await asyncio.to_thread(file.entry, self._source, end, self.head)

    async def _publish(self, file: NewFile, entry: Entry) -> Entry:
        await reached("archive_staged")
        await asyncio.to_thread(self._store.publish, file.path, file.name)
        await reached("archive_written")
        return await self._enter(entry)

    async def _enter(self, entry: Entry) -> Entry:
        stored = encoded(entry)
        try:
            await asyncio.to_thread(self._store.create, entry.name, stored)
        except FileExistsError:
            if await asyncio.to_thread(self._store.read, [entry.name]) == [stored]:  # ours, and its answer was lost
                return self._entered(entry, stored)
            if entry.file:
                with contextlib.suppress(ArchiveError):  # the next run removes it, if anybody may
                    await asyncio.to_thread(self._store.remove, entry.file)
            raise ArchiveError(
                f"Another run writes into the archive at {self._store.place} at this moment; what this one wrote "
                "before is a part of it. Let one run at a time."
            ) from None
        await reached("archive_entered")
        return self._entered(entry, stored)

    def _entered(self, entry: Entry, stored: bytes) -> Entry:
        self._number, self.head = entry.number, hash_of(stored)
        self._files.add(entry.file)
        self.written.append(entry)
        return entry

    def remove_leftovers(self) -> int:
        """Removes what killed runs left. Returns how many files.

        A file whose number is taken by another can never become a part of the archive, whoever is writing it.
        """
        left = [
            name
            for folder in (DATA, f"{STAGING}/")
            for name in self._store.names(folder)
            if name not in self._files and 0 < number_of(name) <= self._number
        ]
        for name in left:
            self._store.remove(name)
        return len(left)

    def remove_last_replaced(self, manifest: Manifest) -> None:
        """Removes the file that was replaced last, which a killed rewrite may have left, listed or not."""
        numbers = [entry.replaces.number for entry in manifest.entries if isinstance(entry.replaces, Replaced)]
        if numbers:
            self._store.remove(manifest.entries[numbers[-1] - 1].file)


def number_of(name: str) -> int:
    """Returns the number of the entry that a file was written for; 0 if its name has none."""
    found = _number(name)
    return int(found["number"]) if found else 0
