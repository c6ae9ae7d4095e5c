"""Every version of the event that was ever published, and how each becomes the newest (docs/decisions/0014).

A published version never changes: its JSON Schema is kept in `contracts/schemas/`, its bytes in
`tests/contracts/golden/`. To evolve the event, add a version: a struct, an upcaster, golden bytes.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar, cast

import msgspec

from contracts.event import (
    DEFAULT_TENANT,
    ActivityCommand,
    EventId,
    EventTypeName,
    Payload,
    TenantId,
    Timestamp,
    UserEvent,
    UserId,
)
from contracts.types import FIRST_TYPES

NEWEST = (2, 0)


class UserEventV1(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, gc=False):
    """Version 1, the original Express API's five fields. Without a version and a tenant: it is the default tenant's."""

    event_id: EventId
    user_id: UserId
    event_type: EventTypeName
    timestamp: Timestamp
    payload: Payload = msgspec.field(default_factory=dict)


class Metadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """About the writing, not about the fact. `migrated_at`: when an older event was rewritten; null if it never was."""

    schema_version: Literal["1.0", "2.0"]
    migrated_at: Timestamp | None = None


class UserEventV2(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Version 2: whose event it is, and which version it says it is."""

    version: Literal["2.0"]
    event_id: EventId
    tenant_id: TenantId
    user_id: UserId
    event_type: EventTypeName
    timestamp: Timestamp
    metadata: Metadata = msgspec.field(name="_metadata")
    payload: Payload = msgspec.field(default_factory=dict)


Shape = TypeVar("Shape", bound=msgspec.Struct)


def with_types(shape: type[Shape], names: Sequence[str]) -> type[Shape]:
    """The same shape with no other event types than these, for documents; its JSON Schema lists them."""
    literal: Any = Literal
    fields = [
        (field.name, literal[tuple(names)] if field.name == "event_type" else field.type, _field(field))
        for field in msgspec.structs.fields(shape)
    ]
    told = {"__doc__": shape.__doc__, "__module__": shape.__module__}
    listed = msgspec.defstruct(
        shape.__name__, fields, namespace=told, kw_only=True, forbid_unknown_fields=True, gc=False
    )
    return cast("type[Shape]", listed)


def _field(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.field(name=field.encode_name, default_factory=field.default_factory)
    return msgspec.field(name=field.encode_name, default=field.default)


# Versions 1 and 2 are published with the three types that Footfall is shipped with; `open`: the same with any type
# (docs/decisions/0035).
PUBLISHED: dict[str, type[msgspec.Struct]] = {
    "1": with_types(UserEventV1, FIRST_TYPES),
    "2": with_types(UserEventV2, FIRST_TYPES),
    "1-open": UserEventV1,
    "2-open": UserEventV2,
}

WRITTEN_IN_V2 = Metadata(schema_version="2.0")

# How a time in UTC ends in an event as it is rendered, and how version 2 begins.
END_OF_TIME_V1, END_OF_TIME_V2, START_V2 = b'Z","payload":', b'Z","_metadata":', b'{"version":'

_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines


def at_full_width(event_json: bytes, timestamp: datetime) -> bytes:
    """An event's JSON as msgspec renders it, with six digits of the second also when they are zeros (decision 10).

    The timestamp is in UTC, and the last field but the payload and `_metadata`. What follows it here cannot stand
    within the fields before it: there a quotation mark is escaped.
    """
    if timestamp.microsecond:
        return event_json
    end = END_OF_TIME_V2 if event_json.startswith(START_V2) else END_OF_TIME_V1
    return event_json.replace(end, b".000000" + end, 1)


def upcast_v1(event: UserEventV1) -> UserEvent:
    """Version 1 as the newest: it is the default tenant's."""
    return UserEvent(event.event_id, event.user_id, event.event_type, event.timestamp, event.payload)


def upcast_v2(event: UserEventV2) -> UserEvent:
    """Version 2 is the newest; what `_metadata` says of the writing is no part of the fact."""
    return UserEvent(event.event_id, event.user_id, event.event_type, event.timestamp, event.payload, event.tenant_id)


class _NewEvent(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """Version 1 as the command side writes it: the id is text already."""

    event_id: str
    user_id: str
    event_type: str
    timestamp: datetime
    payload: dict[str, Any]


class _NewTenantEvent(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """As `_NewEvent`, of version 2."""

    version: str
    event_id: str
    tenant_id: str
    user_id: str
    event_type: str
    timestamp: datetime
    metadata: Metadata = msgspec.field(name="_metadata")
    payload: dict[str, Any]


def encode_new_event(command: ActivityCommand, event_id: str, timestamp: datetime, tenant_id: str) -> bytes:
    """`encode_event` of a new event, byte for byte, without making a UUID object (1 us)."""
    if tenant_id == DEFAULT_TENANT:  # written out, for a call more is a part of the whole that can be measured
        text = _encode(_NewEvent(event_id, command.user_id, command.event_type, timestamp, command.payload))
    else:
        text = _encode(_new_of_tenant(command, event_id, timestamp, tenant_id))
    return text if timestamp.microsecond else at_full_width(text, timestamp)


def encode_new_events(
    commands: Sequence[ActivityCommand], event_ids: Sequence[str], timestamp: datetime, tenant_id: str
) -> bytes:
    """What `encode_new_event` makes of each before `at_full_width`, with a line feed after each: they hold no other."""
    if tenant_id != DEFAULT_TENANT:
        named = zip(commands, event_ids, strict=True)
        return _encode_lines([_new_of_tenant(command, event_id, timestamp, tenant_id) for command, event_id in named])
    return _encode_lines(
        [
            _NewEvent(event_id, command.user_id, command.event_type, timestamp, command.payload)
            for command, event_id in zip(commands, event_ids, strict=True)
        ]
    )


def _new_of_tenant(command: ActivityCommand, event_id: str, timestamp: datetime, tenant_id: str) -> _NewTenantEvent:
    return _NewTenantEvent(
        "2.0", event_id, tenant_id, command.user_id, command.event_type, timestamp, WRITTEN_IN_V2, command.payload
    )


def encode_event(event: UserEvent) -> bytes:
    """The event's JSON, UTF-8: what travels in Kafka, what a 201 shows and what queries answer.

    The default tenant's events are written in version 1, so that clients and consumers of the original
    Express API see the bytes that they know.
    """
    return at_full_width(_encode(_as_written(event)), event.timestamp)


def _as_written(event: UserEvent) -> UserEventV1 | UserEventV2:
    if event.tenant_id == DEFAULT_TENANT:
        return UserEventV1(event.event_id, event.user_id, event.event_type, event.timestamp, event.payload)
    return UserEventV2(
        version="2.0",
        event_id=event.event_id,
        tenant_id=event.tenant_id,
        user_id=event.user_id,
        event_type=event.event_type,
        timestamp=event.timestamp,
        metadata=WRITTEN_IN_V2,
        payload=event.payload,
    )
