"""The user event: its shape, its rules, and the one place where both are written down.

HTTP bodies, Kafka values and the published JSON Schema are all derived from the structs below.
Names on the wire are those of the original Express API (`userId`, `eventType`, ..; docs/index.md says what it was).
See docs/decisions/0010 for time.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from contracts.types import MAX_NAME_LENGTH, NAME_RULE

DEFAULT_TENANT = "default"  # its bytes, keys and URLs are those of the original Express API

MAX_USER_ID_LENGTH = 256  # characters
MAX_TENANT_ID_LENGTH = 64  # characters
MAX_PAYLOAD_BYTES = 16 * 1024  # bytes of the payload as Footfall encodes it
MAX_PAYLOAD_DEPTH = 16  # levels; the payload object itself is the first

# A negative look-ahead instead of `^[^..]+$`: Python's `$` would let a trailing newline through, and JSON Schema's
# regular expressions know no `\Z`. This form means the same in both.
NO_CONTROL_CHARACTERS = r"^(?![\s\S]*[\u0000-\u001f\u007f-\u009f])"

TENANT_ID = r"^[A-Za-z0-9._-]+(?![\s\S])"  # the look-ahead is `\\Z`, see above

# Any type that was ever declared, for what is in the log stays readable; commands may say what the catalogue declares.
EventTypeName = Annotated[
    str,
    msgspec.Meta(
        # `rules.py` checks it, once for all events of a batch.
        extra_json_schema={"pattern": rf"^[A-Z][A-Z0-9_]{{0,{MAX_NAME_LENGTH - 1}}}(?![\s\S])"},
        description=f"What happened: {NAME_RULE}.",
    ),
]
TenantId = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=MAX_TENANT_ID_LENGTH,
        pattern=TENANT_ID,
        description="Whose events these are: 1 to 64 letters, digits, `.`, `_` or `-`.",
        examples=["acme"],
    ),
]
UserId = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=MAX_USER_ID_LENGTH,
        extra_json_schema={"pattern": NO_CONTROL_CHARACTERS},  # rules.py checks it: msgspec's way costs 0.4 us
        description="Who acted: 1 to 256 characters, no control characters. Events of one user keep their order.",
        examples=["user-123"],
        extra={"pii": True},
    ),
]
Payload = Annotated[
    dict[str, Any],
    msgspec.Meta(
        description="Free-form details: an object of at most 16 KiB encoded and 16 levels deep.",
        examples=[{"productId": "p-42", "referrer": "https://example.com/"}],
        extra={"pii": True},
    ),
]
Timestamp = Annotated[
    datetime,
    msgspec.Meta(
        tz=True,
        description="When it happened: ISO-8601 with an offset. Footfall keeps microseconds: a longer fraction is cut,"
        " never rounded, and a leap second is the last microsecond before it. It writes UTC with `Z` and six digits.",
    ),
]
EventId = Annotated[UUID, msgspec.Meta(description="Unique id of the event; UUIDv7 (RFC 9562) when Footfall makes it.")]


class ActivityCommand(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A request to record one activity. It may be rejected; an accepted one becomes a `UserEvent`."""

    user_id: UserId
    event_type: EventTypeName
    payload: Payload = msgspec.field(default_factory=dict)


class UserEvent(msgspec.Struct, frozen=True, rename="camel", gc=False):  # JSON holds no cycles
    """An immutable fact: who did what, and when; whatever version it was written in (see `versions.py`).

    `timestamp` is timezone-aware UTC, microseconds.
    """

    event_id: UUID
    user_id: UserId
    event_type: EventTypeName
    timestamp: datetime
    payload: Payload
    tenant_id: str = DEFAULT_TENANT


def _personal_fields() -> frozenset[str]:
    """Names, as attributes and on the wire, of the fields marked `pii`: logs mask them."""
    names = set()
    for field in msgspec.structs.fields(UserEvent):
        metadata = getattr(field.type, "__metadata__", ())
        if any(isinstance(meta, msgspec.Meta) and (meta.extra or {}).get("pii") for meta in metadata):
            names |= {field.name, field.encode_name}
    return frozenset(names)


PERSONAL_FIELDS = _personal_fields()


def is_tenant_id(text: str) -> bool:
    """Whether the text can name a tenant."""
    return len(text) <= MAX_TENANT_ID_LENGTH and re.match(TENANT_ID, text) is not None


def create_user_event(command: ActivityCommand, tenant_id: str, event_id: UUID | None = None) -> UserEvent:
    """The fact that a valid command becomes: a fresh UUIDv7, unless its id is derived, and the present time in UTC."""
    return UserEvent(
        event_id=event_id or uuid7(),
        user_id=command.user_id,
        event_type=command.event_type,
        timestamp=datetime.now(UTC),
        payload=command.payload,
        tenant_id=tenant_id,
    )
