"""Turns records into rows: it decodes, validates and encodes each event for PostgreSQL, once.

This is the hot path, so it encodes the rows of a batch in PostgreSQL's binary COPY format itself: about 1 us for each
event. A driver that looks up a codec for each value takes several us
(https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format").
"""

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import Protocol

import msgspec

from contracts.event import DEFAULT_TENANT, UserEvent
from contracts.record import from_value
from contracts.validation.fast_events import validate_events_fast
from contracts.validation.rules import Problems
from contracts.versions import encode_event
from contracts.wire.frames import unframed
from projector.writing.failure import Cause, Diagnosis, NotOpenedError, storable_words

COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
COPY_TRAILER = struct.pack(">h", -1)
POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
POSTGRES_EPOCH_MS = int(POSTGRES_EPOCH.timestamp() * 1000)
UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MIN_RECORDED_AT_MS = int(datetime(1, 1, 1, tzinfo=UTC).timestamp()) * 1000
MAX_RECORDED_AT_MS = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp()) * 1000

# Each column, and the type of the array parameter that carries it. Times are sent as text, because asyncpg would send
# Python's first and last time as infinity.
COLUMN_ARRAYS = {
    "event_id": "uuid[]",
    "occurred_at": "text[]::timestamptz[]",
    "recorded_at": "text[]::timestamptz[]",
    "kafka_partition": "int[]",
    "kafka_offset": "bigint[]",
    "user_id": "text[]",
    "tenant_id": "text[]",
    "kafka_topic": "text[]",
    "event_type": "text[]",
    "meaning": "text[]",
    "product_id": "text[]",
    "payload": "jsonb[]",
    "event_json": "text[]",
}
Stored = Sequence[tuple[str, str]] | None  # meaning and product of each row; None: every row stores neither
COLUMNS = tuple(COLUMN_ARRAYS)
COLUMN_TYPES = tuple(COLUMN_ARRAYS.values())
# The head of a row: the column count, length and value of the five columns of fixed width, and the sixth's length.
_pack_head = struct.Struct(">hi16siqiqiiiqi").pack
_pack_length = struct.Struct(">i").pack
_pack_jsonb_length = struct.Struct(">ib").pack  # and jsonb's binary format version
_encode_payload = msgspec.json.Encoder().encode
_MICROSECOND = timedelta(microseconds=1)
_SAYS_NOTHING = _pack_length(0) * 2
_PAYLOAD = b',"payload":'  # an event's last field; inside a JSON string its quotes would be escaped


SEALED = b'{"version":"3.'  # how events and markers of the sealed log begin


class KafkaRecord(Protocol):
    """The fields of a Kafka record that the projector reads; aiokafka's ConsumerRecord has them."""

    topic: str
    partition: int
    offset: int
    timestamp: int  # milliseconds since 1970
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


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
    """Decodes and validates one record. Returns its row, or the diagnosis to park it with.

    Raises NotOpenedError for a record of the sealed log as it is: that it was not opened is not its fault.
    """
    problem = getattr(record, "problem", None)
    if problem is not None:
        return Diagnosis("poison", "InvalidSeal", problem)
    if record.value is not None and record.value.startswith(SEALED):
        raise NotOpenedError
    event = from_value(record.value)
    if isinstance(event, Problems):
        if unframed(record.value or b"").startswith(SEALED):
            raise NotOpenedError
        cause: Cause = "poison" if event.newer_version is None else "newer_version"
        return Diagnosis(cause, "InvalidEvent", storable_words(" ".join(event.sentences)))
    if not MIN_RECORDED_AT_MS <= record.timestamp <= MAX_RECORDED_AT_MS:
        return Diagnosis("poison", "InvalidRecord", "The record's timestamp lies outside the years 1 to 9999.")
    event_json = encode_event(event)
    payload = _payload_of(event_json) if event.tenant_id == DEFAULT_TENANT else _encode_payload(event.payload)
    return EventRow(event, record.topic, record.partition, record.offset, record.timestamp, event_json, payload)


def to_rows(records: Sequence[KafkaRecord]) -> list[EventRow] | None:
    """Converts all records of one partition at once; returns None unless fast validation accepts every one."""
    found = validate_events_fast([record.value for record in records])
    times = [record.timestamp for record in records]
    if found is None or min(times) < MIN_RECORDED_AT_MS or max(times) > MAX_RECORDED_AT_MS:
        return None
    topic, partition = repeat(records[0].topic), repeat(records[0].partition)
    offsets = [record.offset for record in records]
    payloads = map(_payload_of, found.rendered)
    return list(map(EventRow, found.events, topic, partition, offsets, times, found.rendered, payloads))


def _payload_of(event_json: bytes) -> bytes:
    """Returns the payload's JSON from an event rendered in version 1, where it is the last field."""
    return event_json[event_json.index(_PAYLOAD) + len(_PAYLOAD) : -1]


def copy_bytes(rows: Iterable[EventRow], stored: Stored = None) -> bytes:
    """Encodes the rows as one binary COPY stream of `COLUMNS`."""
    parts = [COPY_HEADER]
    names: dict[tuple[str, str, str], bytes] = {}
    after_names = _SAYS_NOTHING if stored is None else b""
    said = repeat(b"") if stored is None else (_sized(meaning) + _sized(product) for meaning, product in stored)
    for row, meaning_and_product in zip(rows, said, strict=False):  # not strict: `said` may be endless
        event, payload, event_json = row.event, row.payload, row.event_json
        user = event.user_id.encode()
        name = (event.tenant_id, row.topic, event.event_type)
        parts += (
            _pack_head(
                13,
                16, event.event_id.int.to_bytes(16, "big"),
                8, (event.timestamp - POSTGRES_EPOCH) // _MICROSECOND,
                8, (row.recorded_at_ms - POSTGRES_EPOCH_MS) * 1000,
                4, row.partition,
                8, row.offset,
                len(user),
            ),
            user,
            names.get(name) or names.setdefault(name, b"".join(map(_sized, name)) + after_names),
            meaning_and_product,
            _pack_jsonb_length(len(payload) + 1, 1),
            payload,
            _pack_length(len(event_json)),
            event_json,
        )  # fmt: skip
    parts.append(COPY_TRAILER)
    return b"".join(parts)


def _sized(text: str) -> bytes:
    encoded = text.encode()
    return _pack_length(len(encoded)) + encoded


def column_arrays(rows: Sequence[EventRow], stored: Stored = None) -> tuple[Sequence[object], ...]:
    """Returns the rows as one array for each of `COLUMNS`, for `unnest`."""
    return (
        [row.event.event_id for row in rows],
        [row.event.timestamp.isoformat() for row in rows],
        [(UNIX_EPOCH + timedelta(milliseconds=row.recorded_at_ms)).isoformat() for row in rows],
        [row.partition for row in rows],
        [row.offset for row in rows],
        [row.event.user_id for row in rows],
        [row.event.tenant_id for row in rows],
        [row.topic for row in rows],
        [row.event.event_type for row in rows],
        [""] * len(rows) if stored is None else [meaning for meaning, _ in stored],
        [""] * len(rows) if stored is None else [product for _, product in stored],
        [row.payload.decode() for row in rows],
        [row.event_json.decode() for row in rows],
    )
