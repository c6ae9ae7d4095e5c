"""`footfall archive rewrite`: takes erased users out of an archive, file by file.

A record keeps its offset: a stub stands in its place, as in a rewritten topic (`operations/rewrite/substitutes.py`). A
file that holds such records is written anew; an entry says which one it replaces, why and at which offsets; then the
old file goes. The files of a partition are rewritten in their order, so that a marker goes after all that it erases.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import asyncpg
import msgspec
from aiokafka.structs import ConsumerRecord

from operations.archive.coverage import Coverage, newer_erasures
from operations.archive.files.entries import Entry, Replaced
from operations.archive.files.manifest import Manifest, checked_manifest
from operations.archive.files.reading import Place, Records
from operations.archive.files.refusal import ArchiveError
from operations.archive.files.stores import Store
from operations.archive.known_ends import check_end
from operations.archive.running import OnProgress
from operations.archive.writing import DATA, NewFile, Source, Writer
from operations.rewrite.markers import Marked, Markers
from operations.rewrite.substitutes import Copy, Substitutes

UNDER_WAY = "rewriting"  # the file with what names the stubs, for as long as a rewrite is under way
SECRET_BYTES = 32
WHY = "erasure"
VERSIONS = (
    "The bucket of {place} keeps versions: the files that were removed are still in it as older versions, and so is "
    "what named the stubs, until a rule of the bucket, or you, remove those."
)


class Rewritten(msgspec.Struct, frozen=True, rename="camel"):
    """What a rewrite did. `users`: erased since the last one; `removed`: files that killed commands had left.

    `problems`: a sentence for each reason why the archive may still have records of erased users. `notes`: where
    else, by what the place is made for, the bytes are.
    """

    place: str
    users: int
    records: int
    files: int
    entries: int
    head: str
    removed: int
    problems: list[str]
    notes: list[str]


async def rewrite(
    connection: asyncpg.Connection, store: Store, products: frozenset[str], on_progress: OnProgress
) -> Rewritten:
    """Takes out of the archive every user whose markers it has. After a kill, the same command goes on.

    Args:
        connection: Of the database's owner: it knows the archive's end, and whom sealed markers are of.
        store: The archive.
        products: Payload fields that name a product.
        on_progress: Is told how many records were looked at.

    Raises:
        ArchiveError: The archive is not whole, not the one that the audit log knows, or somebody else writes into it.
        RefusedError: It has erasures that no projector has applied.
    """
    manifest = await asyncio.to_thread(checked_manifest, store)
    if not manifest.entries:
        raise ArchiveError(f"The archive at {store.place} is empty. Begin with: footfall archive run")
    await check_end(connection, manifest, store.place)
    records = Records(store, manifest)
    writer = Writer(store, manifest, Source(manifest.entries[0].topic, manifest.topic_id))
    newer = await newer_erasures(connection, manifest)
    removed = await asyncio.to_thread(_removed, writer, manifest)  # first: whoever may not remove files adds none
    try:
        work = _Work(store, records, writer, on_progress)
        marked = await work.marked(connection)
        secret = await asyncio.to_thread(_secret, store)
        await work.all(Substitutes(secret, marked.until, products, keeps_counts=True, sealed=marked.sealed))
    finally:
        records.close()
    removed += await asyncio.to_thread(writer.remove_leftovers)
    await asyncio.to_thread(store.remove, UNDER_WAY)
    written = writer.written
    changed = sum(len(entry.replaced_offsets) for entry in written) - work.before
    problems = newer + work.coverage.problems() + await asyncio.to_thread(_left, store, [*manifest.entries, *written])
    return Rewritten(
        place=store.place,
        users=marked.users,
        records=changed,
        files=len(written),
        entries=writer.number,
        head=writer.head,
        removed=removed,
        problems=problems,
        notes=[VERSIONS.format(place=store.place)] if store.keeps_versions else [],
    )


def _removed(writer: Writer, manifest: Manifest) -> int:
    """Removes what a rewrite left that was killed, or was not allowed to remove it. Returns how many files."""
    writer.remove_last_replaced(manifest)
    return writer.remove_leftovers()


def _left(store: Store, entries: Sequence[Entry]) -> list[str]:
    """Says so if a replaced file is still there, although its removal was answered well."""
    replaced = {entries[entry.replaces.number - 1].file for entry in entries if isinstance(entry.replaces, Replaced)}
    left = sorted(replaced & set(store.names(DATA)))
    if not left:
        return []
    told = (
        f"{len(left):,} replaced files are still at {store.place}, {left[0]} the first, although their removal was "
        "answered well: erased users may be in them. Look at the server, and rewrite again."
    )
    return [told]


def _secret(store: Store) -> bytes:
    """The secret of the rewrite that was begun, or a new one: stubs of one user have one name in all files."""
    with contextlib.suppress(FileExistsError):
        store.create(UNDER_WAY, secrets.token_bytes(SECRET_BYTES))
    [found] = store.read([UNDER_WAY])
    return found


class _Work:
    def __init__(self, store: Store, records: Records, writer: Writer, on_progress: OnProgress) -> None:
        self._store, self._records, self._writer, self._on_progress = store, records, writer, on_progress
        self._entries = [entry for entry in records.manifest.current if entry.file]
        self._total, self._passed = 2 * sum(entry.count for entry in self._entries), 0
        self.coverage = Coverage()
        self.before = 0  # records that were replaced before, in files that are rewritten

    async def marked(self, connection: asyncpg.Connection) -> Marked:
        """Reads whom the archive erases. A marker that was replaced is one of stubs, and erases nobody more."""
        found = Markers()
        for entry in self._entries:
            replaced = frozenset(entry.replaced_offsets)
            async for record in self._of(entry):
                self.coverage.add(record, was_replaced=record.offset in replaced)
                if record.offset not in replaced:
                    found.add(record)
        return await found.marked(connection)

    async def all(self, substitutes: Substitutes) -> None:
        """Rewrites each file that has records of erased users."""
        for entry in self._entries:
            offsets = [r.offset async for r in self._of(entry) if substitutes.event(r).kind != "same"]
            if offsets:
                await self._one(entry, offsets, substitutes)

    async def _one(self, entry: Entry, offsets: list[int], substitutes: Substitutes) -> None:
        file: NewFile | None = None
        async for record in self._loaded(entry):
            copied = _copied(record, substitutes.event(record))
            if file is None:
                file = await asyncio.to_thread(self._writer.begin, entry.begin, copied)
            file.add(copied)
        if file is not None:
            self.before += len(entry.replaced_offsets)
            why = Replaced(entry.number, WHY, sorted({*entry.replaced_offsets, *offsets}))
            await self._writer.replace(file, entry, why)

    async def _of(self, entry: Entry) -> AsyncIterator[ConsumerRecord]:
        async for record in self._loaded(entry):
            yield record
        self._passed += entry.count
        self._on_progress(self._passed, self._total)

    async def _loaded(self, entry: Entry) -> AsyncIterator[ConsumerRecord]:
        for number in range(len(entry.blocks)):
            for record in await asyncio.to_thread(self._records.load, Place(entry, number)):
                yield record


def _copied(record: ConsumerRecord, copy: Copy) -> ConsumerRecord:
    key, value, headers = copy.key, copy.value, tuple(copy.headers)
    sizes = [-1 if each is None else len(each) for each in (key, value)]
    return replace(
        record,
        timestamp=copy.timestamp,
        key=key,
        value=value,
        headers=headers,
        serialized_key_size=sizes[0],
        serialized_value_size=sizes[1],
    )
