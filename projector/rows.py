"""Records become rows: decode, validate, and encode for PostgreSQL, once for each event.

The rows of a batch are encoded as PostgreSQL's binary COPY format by ourselves, because this is the hot path: about
1 us an event, where a driver that looks up a codec for each value takes several
(https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format").
"""

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec

from contracts.event import UserEvent
from contracts.record import from_value
from contracts.rules import Problems
from contracts.versions import encode_event
from projector.failure import Cause, Diagnosis

COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
COPY_TRAILER = struct.pack(">h", -1)
POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
POSTGRES_EPOCH_MS = int(POSTGRES_EPOCH.timestamp() * 1000)
UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MIN_RECORDED_AT_MS = int(datetime(1, 1, 1, tzinfo=UTC).timestamp()) * 1000
MAX_RECORDED_AT_MS = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp()) * 1000

# Column and the type of the array that carries it. Times go as text: asyncpg sends the first and the last moment that
# Python knows as infinity.
COLUMN_ARRAYS = {
    "event_id": "uuid[]",
    "occurred_at": "text[]::timestamptz[]",
    "recorded_at": "text[]::timestamptz[]",
    "kafka_partition": "int[]",
    "kafka_offset": "bigint[]",
    "tenant_id": "text[]",
    "kafka_topic": "text[]",
    "user_id": "text[]",
    "event_type": "text[]",
    "payload": "jsonb[]",
    "event_json": "text[]",
}
COLUMNS = tuple(COLUMN_ARRAYS)
COLUMN_TYPES = tuple(COLUMN_ARRAYS.values())
# The fixed-width part of a row: column count, then length and value of the first five columns.
_pack_fixed = struct.Struct(">hi16siqiqiiiq").pack
_pack_length = struct.Struct(">i").pack
_encode_payload = msgspec.json.Encoder().encode


class KafkaRecord(Protocol):
    """What the projector reads of a Kafka record (aiokafka's ConsumerRecord has it)."""

    topic: str
    partition: int
    offset: int
    timestamp: int  # milliseconds since 1970
    key: bytes | None
    value: bytes | None
    headers: Iterable[tuple[str, bytes]]


class EventRow(msgspec.Struct, frozen=True, gc=False):
    """One event with the position and time of its record. `event_json` and `payload` are JSON, UTF-8."""

    event: UserEvent
    topic: str
    partition: int
    offset: int
    recorded_at_ms: int
    event_json: bytes
    payload: bytes


def to_row(record: KafkaRecord) -> EventRow | Diagnosis:
    """Decodes and validates one record."""
    event = from_value(record.value)
    if isinstance(event, Problems):
        cause: Cause = "poison" if event.newer_version is None else "newer_version"
        return Diagnosis(cause, "InvalidEvent", " ".join(event.sentences))
    if not MIN_RECORDED_AT_MS <= record.timestamp <= MAX_RECORDED_AT_MS:
        return Diagnosis("poison", "InvalidRecord", "The record's timestamp lies outside the years 1 to 9999.")
    return EventRow(
        event,
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        encode_event(event),
        _encode_payload(event.payload),
    )


def copy_bytes(rows: Iterable[EventRow]) -> bytes:
    """The rows as one binary COPY stream of `COLUMNS`."""
    parts = [COPY_HEADER]
    for row in rows:
        event = row.event
        age = event.timestamp - POSTGRES_EPOCH
        tenant, topic = event.tenant_id.encode(), row.topic.encode()
        user, kind = event.user_id.encode(), event.event_type.encode()
        parts += (
            _pack_fixed(
                11,
                16, event.event_id.bytes,
                8, (age.days * 86400 + age.seconds) * 1_000_000 + age.microseconds,
                8, (row.recorded_at_ms - POSTGRES_EPOCH_MS) * 1000,
                4, row.partition,
                8, row.offset,
            ),
            _pack_length(len(tenant)), tenant,
            _pack_length(len(topic)), topic,
            _pack_length(len(user)), user,
            _pack_length(len(kind)), kind,
            _pack_length(len(row.payload) + 1), b"\x01", row.payload,  # 1: jsonb's binary format version
            _pack_length(len(row.event_json)), row.event_json,
        )  # fmt: skip
    parts.append(COPY_TRAILER)
    return b"".join(parts)


def column_arrays(rows: Sequence[EventRow]) -> tuple[Sequence[object], ...]:
    """The rows as one array for each of `COLUMNS`, for `unnest`."""
    return (
        [row.event.event_id for row in rows],
        [row.event.timestamp.isoformat() for row in rows],
        [(UNIX_EPOCH + timedelta(milliseconds=row.recorded_at_ms)).isoformat() for row in rows],
        [row.partition for row in rows],
        [row.offset for row in rows],
        [row.event.tenant_id for row in rows],
        [row.topic for row in rows],
        [row.event.user_id for row in rows],
        [row.event.event_type for row in rows],
        [row.payload.decode() for row in rows],
        [row.event_json.decode() for row in rows],
    )
