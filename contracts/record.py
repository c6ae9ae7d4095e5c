"""How one event travels: topic, group, key, headers and the one codec."""

from datetime import UTC, datetime

import msgspec
from uuid_utils import uuid7

from contracts.event import DEFAULT_TENANT, ActivityCommand, UserEvent
from contracts.validation.rules import Problems, validate_complete_user_event
from contracts.versions import encode_event, encode_new_event

TOPIC = "user-activity-events"
DEAD_LETTER_TOPIC = "user-activity-events-dlq"
AUDIT_TOPIC = "user-activity-events-audit"
CONSUMER_GROUP = "user-activity-consumer-group"
PARTITIONS = 6

HEADER_EVENT_TYPE = "event-type"
HEADER_EVENT_ID = "event-id"
HEADER_REQUEST_ID = "request-id"
HEADER_TRACEPARENT = "traceparent"  # W3C Trace Context; only on records of requests that are part of a trace
HEADER_FINGERPRINT = "command-fingerprint"  # only on the event of a command with an idempotency key

TENANT_SEPARATOR = b"\x1f"  # in keys; no user id contains it (docs/decisions/0037)

MAX_REQUEST_ID_LENGTH = 128  # visible ASCII characters


class EventRecord(msgspec.Struct, frozen=True, gc=False):  # texts hold no cycles
    """One event, ready for Kafka. `value` is the event's JSON; `key` decides the partition."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]

    @property
    def event_id(self) -> bytes:
        """The event's id as text, from the headers of a record that `to_record` made."""
        return self.headers[1][1]


class PlacedRecord(EventRecord, frozen=True, gc=False):
    """A record for one partition, whatever its key."""

    partition: int


def partition_key(event: UserEvent) -> bytes:
    """Decides the partition, so that the events of one user stay in order: the user id, the default tenant's bare."""
    return key_of(event.tenant_id, event.user_id)


def key_of(tenant_id: str, user_id: str) -> bytes:
    """The key of every record of this user, and of no other user of any tenant."""
    if tenant_id == DEFAULT_TENANT:
        return user_id.encode()
    return b"%b%b%b" % (tenant_id.encode(), TENANT_SEPARATOR, user_id.encode())


def tenant_of_key(key: bytes) -> str:
    """The tenant of a record's key, as `key_of` made it."""
    tenant_id, separator, _ = key.partition(TENANT_SEPARATOR)
    return tenant_id.decode() if separator else DEFAULT_TENANT


def to_record(event: UserEvent, request_id: str, fingerprint: bytes | None = None) -> EventRecord:
    """The event ready for Kafka. `request_id`: visible ASCII. `fingerprint`: of its command, if that had a key."""
    headers = [
        (HEADER_EVENT_TYPE, event.event_type.encode()),
        (HEADER_EVENT_ID, str(event.event_id).encode()),
        (HEADER_REQUEST_ID, request_id.encode()),
    ]
    if fingerprint is not None:
        headers.append((HEADER_FINGERPRINT, fingerprint))
    return EventRecord(partition_key(event), encode_event(event), headers)


def new_record(command: ActivityCommand, request_id: str, tenant_id: str) -> EventRecord:
    """The record that a valid command becomes: `to_record(create_user_event(..), ..)`, but quicker."""
    event_id = str(uuid7())
    return EventRecord(
        command.user_id.encode() if tenant_id == DEFAULT_TENANT else key_of(tenant_id, command.user_id),
        encode_new_event(command, event_id, datetime.now(UTC), tenant_id),
        [
            (HEADER_EVENT_TYPE, command.event_type.encode()),
            (HEADER_EVENT_ID, event_id.encode()),
            (HEADER_REQUEST_ID, request_id.encode()),
        ],
    )


def from_value(value: bytes | None) -> UserEvent | Problems:
    """Reads a record's value back; a tombstone (no value) is not an event."""
    if value is None:
        return Problems(["The record has no value."])
    return validate_complete_user_event(value)
