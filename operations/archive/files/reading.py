"""Reads archived records in order, and proves each block by its hash before anybody sees a record of it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import IO

import msgspec
from aiokafka.structs import ConsumerRecord

from operations.archive.files.digests import digest_of_all
from operations.archive.files.entries import Entry
from operations.archive.files.manifest import Manifest
from operations.archive.files.record_files import UNREADABLE, ReadFile
from operations.archive.files.refusal import ArchiveError
from operations.archive.files.stores import Store


class Place(msgspec.Struct, frozen=True):
    """One block of one file."""

    entry: Entry
    block: int


class Records:
    """The records of one archive."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self._store, self.manifest = store, manifest
        self._open: dict[int, tuple[str, IO[bytes], ReadFile]] = {}  # by partition: the file that was read last
        self._reading = threading.Lock()  # blocks are loaded in threads, and a file has one position

    def places(self, partition: int, offset: int) -> Iterator[Place]:
        """Yields the blocks that have records at or after an offset."""
        for entry in self.manifest.of(partition):
            if entry.last >= offset:
                for number, block in enumerate(entry.blocks):
                    if block.last >= offset:
                        yield Place(entry, number)

    def load(self, place: Place) -> list[ConsumerRecord]:
        """Returns the records of a block. Raises ArchiveError if they are not those that were archived."""
        entry, block = place.entry, place.entry.blocks[place.block]
        try:
            with self._reading:
                records = self._file(entry).block(place.block)
        except UNREADABLE as error:
            raise ArchiveError(_changed(entry.file, type(error).__name__)) from error
        if digest_of_all(records) != block.sha256:
            raise ArchiveError(_changed(entry.file, f"its records {block.first} to {block.last} have another hash"))
        return records

    async def after(self, partition: int, offset: int) -> AsyncIterator[ConsumerRecord]:
        """Yields the records of a partition from an offset on."""
        for place in self.places(partition, offset):
            for record in await asyncio.to_thread(self.load, place):
                if record.offset >= offset:
                    yield record

    def close(self) -> None:
        """Closes the files."""
        for _, file, read in self._open.values():
            read.close()
            file.close()
        self._open.clear()

    def _file(self, entry: Entry) -> ReadFile:
        found = self._open.get(entry.partition)
        if found is None or found[0] != entry.file:
            if found is not None:
                found[2].close()
                found[1].close()
                del self._open[entry.partition]
            file = self._store.open(entry.file)
            try:
                found = self._open[entry.partition] = (entry.file, file, ReadFile(file, entry.topic))
            except BaseException:
                file.close()
                raise
        return found[2]


def _changed(file: str, why: str) -> str:
    return f"{file} is not as it was written ({why}). See: footfall archive verify"
