"""An archive of today is read for ever: hashes and entries that were written once do not change."""

from uuid import UUID

from aiokafka.structs import ConsumerRecord

from operations.archive.files.digests import digest
from operations.archive.files.entries import FIRST, Block, Entry, decoded, encoded, hash_of

RECORD = ConsumerRecord("t", 3, 17, 1_764_158_400_123, 1, b"user-1", None, None, -1, -1, (("event-type", b"LOGIN"),))
HASH = "0" * 63 + "a"
ENTRY = Entry(
    1, 1, FIRST, "t", UUID(int=5), 3, 10, 20, 17, 17, 1, "2025-11-26", "records/f", 9, HASH, HASH, HASH,
    [Block(17, 17, 1, HASH)], "2026-11-26T12:00:00+00:00",
)  # fmt: skip


def test_a_record_has_the_hash_that_it_always_had() -> None:
    assert digest(RECORD) == "cf21c68977b67e0f436f8c8a99f29a8cdb00a75fc910977201c72e9a9f5094dd"


def test_an_entry_is_stored_as_it_always_was() -> None:
    stored = encoded(ENTRY)
    assert hash_of(stored) == "e35775a1279f077acb2dbb4659bf2290877f14bc2519d2d15c071974b0dc88a1"
    assert encoded(decoded(stored)) == stored
    changed = stored.replace(b'"count": 1', b'"count": 2', 1)
    assert encoded(decoded(changed)) != changed
