"""The manifest's entries: each names one file of records, and the hash of the entry before it."""

import hashlib
import re
from collections.abc import Iterable
from uuid import UUID

import msgspec

FIRST = "0" * 64  # the `previous` of the first entry
FORMAT = 1  # of the files and of the entries
REPLACING = 2  # of an entry that replaces another


class Block(msgspec.Struct, frozen=True, rename="camel"):
    """One row group of a file: its first and last offset, and the hash of its records."""

    first: int
    last: int
    count: int
    sha256: str


class Replaced(msgspec.Struct, frozen=True, rename="camel"):
    """What an entry replaces: the number of another, why, and the offsets of the records that are others now."""

    number: int
    why: str
    offsets: list[int]


class Entry(msgspec.Struct, frozen=True, rename="camel"):
    """One file. It covers the offsets from `begin` up to `end`, some of which may have no record.

    Transaction markers and records of aborted transactions have offsets, and are not archived. An entry that covers
    nothing else has no file.

    `sha256`, `bytes`: of the file. `records`: the hash of its blocks' hashes. `last_record`: that of the last record,
    as it was in the topic when it was archived. `replaces`: the entry whose file this one's stands for.
    `previous`: the hash of the entry before, as it is stored. `check`: the hash of this one without it.
    """

    format: int
    number: int
    previous: str
    topic: str
    topic_id: UUID | None
    partition: int
    begin: int
    end: int
    first: int
    last: int
    count: int
    day: str
    file: str
    bytes: int
    sha256: str
    records: str
    last_record: str
    blocks: list[Block]
    written_at: str
    check: str = ""
    replaces: Replaced | msgspec.UnsetType = msgspec.UNSET

    @property
    def replaced_offsets(self) -> list[int]:
        """The offsets of its records that are others than the topic had."""
        return self.replaces.offsets if isinstance(self.replaces, Replaced) else []

    @property
    def name(self) -> str:
        """The entry's own path in the archive."""
        return entry_name(self.number)


is_entry_name = re.compile(r"manifest/[0-9]{12}\.json").fullmatch
"""Whether a path is one that an entry can have: anybody else's file beside the entries is no part of the archive."""

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(Entry, strict=True).decode


def entry_name(number: int) -> str:
    """Returns the path of an entry; the order of names is that of numbers."""
    return f"manifest/{number:012d}.json"


def encoded(entry: Entry) -> bytes:
    """Returns the entry as it is stored, with its check."""
    checked = msgspec.structs.replace(entry, check=hash_of(_encode(msgspec.structs.replace(entry, check=""))))
    return msgspec.json.format(_encode(checked), indent=1) + b"\n"


def decoded(stored: bytes) -> Entry:
    """Reads a stored entry. Raises msgspec.DecodeError."""
    return _decode(stored)


def hash_of(stored: bytes) -> str:
    """Returns the hash of a stored entry, or of any bytes."""
    return hashlib.sha256(stored).hexdigest()


def hash_of_blocks(blocks: Iterable[Block]) -> str:
    """Returns the hash over the records of a file, from those of its blocks."""
    return hash_of("".join(block.sha256 for block in blocks).encode())
