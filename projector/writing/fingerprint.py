"""Computes a record's fingerprint, which distinguishes it from another record at the same offset."""

from hashlib import blake2b

from projector.writing.rows import KafkaRecord


def fingerprint(record: KafkaRecord) -> int:
    """Returns a 64-bit hash of a record's timestamp, key and value, as a signed integer (PostgreSQL's bigint).

    The projector computes one for each partition of a batch, so the cost is small. Headers are left out: two records
    that differ only in headers carry the same event.
    """
    text = b"%d:%d:%b%b" % (record.timestamp, len(record.key or b""), record.key or b"", record.value or b"")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big", signed=True)
