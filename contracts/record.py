"""How one event travels: topic, group, key, headers and the one codec."""

import msgspec

from contracts.event import UserEvent
from contracts.rules import Problems, validate_complete_user_event

TOPIC = "user-activity-events"
DEAD_LETTER_TOPIC = "user-activity-events-dlq"
CONSUMER_GROUP = "user-activity-consumer-group"
PARTITIONS = 6

HEADER_EVENT_TYPE = "event-type"
HEADER_EVENT_ID = "event-id"
HEADER_REQUEST_ID = "request-id"

MAX_REQUEST_ID_LENGTH = 128  # visible ASCII characters

_encode = msgspec.json.Encoder().encode


class EventRecord(msgspec.Struct, frozen=True):
    """One event, ready for Kafka. `value` is the event's JSON; `key` decides the partition."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def encode_event(event: UserEvent) -> bytes:
    """The event's JSON, UTF-8: what travels in Kafka, what a 201 shows and what queries answer."""
    return _encode(event)


def to_record(event: UserEvent, request_id: str) -> EventRecord:
    """Keyed by user id, so that the events of one user stay in order. `request_id`: visible ASCII."""
    return EventRecord(
        key=event.user_id.encode(),
        value=encode_event(event),
        headers=[
            (HEADER_EVENT_TYPE, event.event_type.encode()),
            (HEADER_EVENT_ID, str(event.event_id).encode()),
            (HEADER_REQUEST_ID, request_id.encode()),
        ],
    )


def from_value(value: bytes | None) -> UserEvent | Problems:
    """Reads a record's value back; a tombstone (no value) is not an event."""
    if value is None:
        return Problems(["The record has no value."])
    return validate_complete_user_event(value)
