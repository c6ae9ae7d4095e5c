"""`footfall archive verify`: reads every file, and names the first that is not as it was written."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO

import msgspec

from operations.archive.files.digests import digest_of_all
from operations.archive.files.entries import Block, Entry, is_entry_name
from operations.archive.files.manifest import FOLDER, Fault, Manifest, read_manifest
from operations.archive.files.record_files import UNREADABLE, ReadFile
from operations.archive.files.stores import Store
from operations.archive.writing import AT_ONCE, DATA

REPLACED = "it was replaced, and is still there with what was to go; remove it by: footfall archive rewrite"

OnProgress = Callable[[int, int], None]  # how many records are verified, of how many


class Verified(msgspec.Struct, frozen=True, rename="camel"):
    """What a verification found. `strangers`: files that are no part of the archive, such as those of a killed run."""

    place: str
    records: int
    files: int
    spans: Mapping[int, tuple[int, int]]
    entries: int
    head: str
    strangers: int
    faults: list[Fault]

    @property
    def sound(self) -> bool:
        """Whether everything is as it was written."""
        return not self.faults


def verify(store: Store, on_progress: OnProgress, expected_head: str | None = None) -> Verified:
    """Reads the whole archive.

    Args:
        store: Where it is.
        on_progress: Is told after each file.
        expected_head: The hash of the last entry, as `run` told it; None: not known.

    Raises:
        ArchiveError: The place cannot be used.
    """
    manifest = read_manifest(store)
    faults = [*manifest.faults, *_faults_of_end(manifest, store.place, expected_head)]
    written = [entry for entry in manifest.current if entry.file]
    strangers = set(store.names(DATA)) - {entry.file for entry in written}
    strangers.update(name for name in store.names(FOLDER) if not is_entry_name(name))
    replaced = {entry.file for entry in manifest.entries} & strangers
    faults += [Fault("left", file, REPLACED) for file in sorted(replaced)]
    total, done = sum(entry.count for entry in written), 0
    for entry in written:
        faults += _faults_of_file(store, entry)
        done += entry.count
        on_progress(done, total)
    return Verified(
        store.place,
        total,
        len(written),
        manifest.spans,
        manifest.number,
        manifest.head,
        len(strangers - replaced),
        faults,
    )


def _faults_of_end(manifest: Manifest, place: str, expected: str | None) -> Iterator[Fault]:
    if not manifest.entries and not manifest.faults:
        yield Fault("missing", "manifest", f"there is no archive at {place}")
    if expected is not None and manifest.head != expected:
        yield Fault("cut off", "manifest", f"its last entry has the hash {manifest.head}, not {expected}")


def _faults_of_file(store: Store, entry: Entry) -> Iterator[Fault]:
    """Looks into the file only if its hash is another: to say which records are concerned."""
    try:
        with store.open(entry.file) as file:
            if _hash(file) != entry.sha256:
                yield Fault("changed", entry.file, f"its bytes are not those that were written: {_where(file, entry)}")
    except FileNotFoundError:
        yield Fault("missing", entry.file, f"partition {entry.partition}, offsets {entry.first} to {entry.last}")
    except OSError as error:
        yield Fault("unreadable", entry.file, error.strerror or type(error).__name__)


def _hash(file: IO[bytes]) -> str:
    found = hashlib.sha256()
    while piece := file.read(AT_ONCE):
        found.update(piece)
    return found.hexdigest()


def _where(file: IO[bytes], entry: Entry) -> str:
    """Names the records that a change concerns, as closely as the file can tell."""
    file.seek(0)
    where = f"partition {entry.partition}"
    try:
        read = ReadFile(file, entry.topic)
    except UNREADABLE:
        return f"it is no Parquet file any more ({where}, offsets {entry.first} to {entry.last})"
    changed = [block for number, block in enumerate(entry.blocks) if not _is_whole(read, number, block)]
    if not changed:
        return "outside its records, which are all as they were written"
    return "; ".join(f"{where}, offsets {block.first} to {block.last}" for block in changed)


def _is_whole(read: ReadFile, number: int, block: Block) -> bool:
    try:
        return number < read.blocks and digest_of_all(read.block(number)) == block.sha256
    except UNREADABLE:
        return False
