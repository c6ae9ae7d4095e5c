"""Reads the manifest: a chain of entries, each with the hash of the one before."""

from collections.abc import Iterator, Sequence
from uuid import UUID

import msgspec

from operations.archive.files.entries import (
    FIRST,
    FORMAT,
    REPLACING,
    Entry,
    Replaced,
    decoded,
    encoded,
    entry_name,
    hash_of,
    hash_of_blocks,
    is_entry_name,
)
from operations.archive.files.refusal import ArchiveError
from operations.archive.files.stores import Store

FOLDER = "manifest/"


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with one file of an archive. `file`: its name there."""

    kind: str
    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.file}: {self.what}"


class Manifest(msgspec.Struct, frozen=True):
    """The entries in their order, the hash of the last, and what is wrong with the chain."""

    entries: Sequence[Entry]
    head: str
    faults: Sequence[Fault] = ()

    @property
    def number(self) -> int:
        """The number of the last entry; 0: there is none."""
        return self.entries[-1].number if self.entries else 0

    def hash_of(self, number: int) -> str | None:
        """Returns the hash of an entry; None: there is no such entry."""
        if number == self.number:
            return self.head
        return self.entries[number].previous if 0 < number < self.number else None

    @property
    def current(self) -> list[Entry]:
        """The entries that hold: in the place of one that was replaced stands what replaced it."""
        found: list[Entry] = []
        places: dict[int, int] = {}
        for entry in self.entries:
            place = places.get(entry.replaces.number) if isinstance(entry.replaces, Replaced) else None
            if place is None:
                places[entry.number] = len(found)
                found.append(entry)
            else:
                places[entry.number] = place
                found[place] = entry
        return found

    def of(self, partition: int) -> list[Entry]:
        """Returns the entries of one partition."""
        return [entry for entry in self.current if entry.partition == partition]

    @property
    def last(self) -> dict[int, Entry]:
        """The last entry of each partition."""
        return {entry.partition: entry for entry in self.current}

    @property
    def last_with_records(self) -> dict[int, Entry]:
        """The last entry of each partition that has a file."""
        return {entry.partition: entry for entry in self.current if entry.file}

    @property
    def topic_id(self) -> UUID | None:
        """The topic's id, as the first entry has it."""
        return self.entries[0].topic_id if self.entries else None

    @property
    def spans(self) -> dict[int, tuple[int, int]]:
        """By partition, the offsets that it covers: from the first up to the second."""
        first = {entry.partition: entry.begin for entry in reversed(self.current)}
        return {partition: (first[partition], entry.end) for partition, entry in sorted(self.last.items())}


def read_manifest(store: Store) -> Manifest:
    """Reads the manifest and checks the chain, not the files. Raises ArchiveError if the place cannot be used."""
    names = [name for name in store.names(FOLDER) if is_entry_name(name)]
    entries: list[Entry] = []
    faults: list[Fault] = []
    before = FIRST
    for number, (name, stored) in enumerate(zip(names, store.read(names), strict=True), 1):
        entry = _entry(stored)
        if name != entry_name(number):
            faults.append(Fault("missing", entry_name(number), f"the next entry is {name}"))
            break
        if entry is not None and entry.format not in (FORMAT, REPLACING):
            faults.append(Fault("newer", name, f"it has format {entry.format}, and this Footfall reads {REPLACING}"))
            break
        if entry is None or entry.number != number or encoded(entry) != stored:
            faults.append(Fault("changed", name, "it is no entry that Footfall wrote"))
            break
        if entry.previous != before:
            changed = entry_name(number - 1) if number > 1 else name
            faults.append(Fault("changed", changed, f"{name} has another hash of the entry before it"))
            break
        entries.append(entry)
        before = hash_of(stored)
    faults += _faults_of_spans(entries)
    return Manifest(entries, before, faults)


def checked_manifest(store: Store) -> Manifest:
    """Reads the manifest. Raises ArchiveError if anything is wrong with it."""
    found = read_manifest(store)
    if found.faults:
        raise ArchiveError(
            f"The archive at {store.place} is not whole: {found.faults[0]}. See: footfall archive verify"
        )
    return found


def _entry(stored: bytes) -> Entry | None:
    try:
        return decoded(stored)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _faults_of_spans(entries: Sequence[Entry]) -> Iterator[Fault]:
    reached: dict[int, int] = {}
    held: dict[int, Entry] = {}  # by number, those that nothing has replaced yet
    for entry in entries:
        held[entry.number] = entry
        if (entry.topic, entry.topic_id) != (entries[0].topic, entries[0].topic_id):
            yield Fault(
                "foreign",
                entry.file or entry.name,
                f"it is of topic {entry.topic} {entry.topic_id}, not of {_of(entries)}",
            )
        if isinstance(entry.replaces, Replaced):
            if not _stands_for(entry, held.pop(entry.replaces.number, None)):
                yield Fault("changed", entry.name, f"it does not fit entry {entry.replaces.number}, which it replaces")
            continue
        at = reached.get(entry.partition, entry.begin)
        if entry.begin > at:
            yield Fault(
                "gap",
                entry.file or entry.name,
                f"partition {entry.partition} lacks the offsets {at} to {entry.begin - 1}",
            )
        elif entry.begin < at:
            yield Fault(
                "overlap", entry.file or entry.name, f"partition {entry.partition} has offset {entry.begin} twice"
            )
        if not _is_in_order(entry):
            yield Fault("changed", entry.name, "its offsets do not follow each other")
        reached[entry.partition] = entry.end


def _stands_for(entry: Entry, replaced: Entry | None) -> bool:
    """Whether both are of the same records: each offset keeps a record."""
    if replaced is None or not _is_in_order(entry):
        return False
    return all(
        getattr(entry, field) == getattr(replaced, field)
        for field in ("partition", "begin", "end", "first", "last", "count", "last_record")
    )


def _of(entries: Sequence[Entry]) -> str:
    return f"{entries[0].topic} {entries[0].topic_id}"


def _is_in_order(entry: Entry) -> bool:
    if not entry.file:
        return entry.begin < entry.end and not entry.blocks and not entry.count
    edges = [entry.begin, *(edge for block in entry.blocks for edge in (block.first, block.last + 1)), entry.end]
    return (
        bool(entry.blocks)
        and edges == sorted(edges)
        and all(block.first <= block.last for block in entry.blocks)
        and sum(block.count for block in entry.blocks) == entry.count
        and (entry.blocks[0].first, entry.blocks[-1].last) == (entry.first, entry.last)
        and hash_of_blocks(entry.blocks) == entry.records
    )
