"""Hashes of records, over all that Kafka gives of them: a record has the same hash in the topic and in a file."""

import hashlib
import struct
from collections.abc import Iterable

from aiokafka.structs import ConsumerRecord

_head = struct.Struct(">qqb").pack
_length = struct.Struct(">i").pack
_ABSENT = _length(-1)


def record_bytes(record: ConsumerRecord) -> bytes:
    """Returns all of a record but its partition: offset, timestamp, its type, key, value and headers, with lengths."""
    parts = [_head(record.offset, record.timestamp, record.timestamp_type), _sized(record.key), _sized(record.value)]
    parts.append(_length(len(record.headers)))
    for name, value in record.headers:
        parts += _sized(name.encode()), _sized(value)
    return b"".join(parts)


def _sized(value: bytes | None) -> bytes:
    return _ABSENT if value is None else _length(len(value)) + value


def digest(record: ConsumerRecord) -> str:
    """Returns the hash of one record."""
    return hashlib.sha256(record_bytes(record)).hexdigest()


def digest_of_all(records: Iterable[ConsumerRecord]) -> str:
    """Returns the hash of these records, in their order."""
    found = hashlib.sha256()
    for record in records:
        found.update(record_bytes(record))
    return found.hexdigest()
