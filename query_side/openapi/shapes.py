"""The schemas of answers, from the structs that are encoded, each with an example."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec

from contracts.types import FIRST_TYPES
from query_side.activity import queries as projections
from query_side.api.declared import EXAMPLE_ID, NO_CONTROL_CHARACTERS
from query_side.api.described import Refusal
from query_side.api.parameters import MAX_TEXT_LENGTH
from query_side.feed.event_status import Status

Json = dict[str, Any]


class Event(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """An immutable fact: who did what, and when."""

    event_id: Annotated[UUID, msgspec.Meta(description="Unique id of the event.")]
    user_id: Annotated[
        str,
        msgspec.Meta(description="Who acted.", min_length=1, max_length=MAX_TEXT_LENGTH, pattern=NO_CONTROL_CHARACTERS),
    ]
    event_type: Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(FIRST_TYPES)})]
    timestamp: Annotated[datetime, msgspec.Meta(description="When it happened, in UTC.", tz=True)]
    payload: Annotated[
        dict[str, Any],
        msgspec.Meta(description="Free-form details.", extra_json_schema={"additionalProperties": True}),
    ]


EXAMPLE_EVENT: Json = {
    "eventId": EXAMPLE_ID,
    "userId": "user-123",
    "eventType": "PRODUCT_VIEW",
    "timestamp": "2026-01-31T12:00:00.123456Z",
    "payload": {"productId": "p-42", "referrer": "https://example.com/"},
}
EXAMPLES: Mapping[type[msgspec.Struct], Json] = {
    Event: EXAMPLE_EVENT,
    projections.UserActivity: {
        "userId": "user-123",
        "firstSeen": "2026-01-31T11:58:00Z",
        "lastSeen": "2026-01-31T12:00:00.123456Z",
        "logins": 1,
        "logouts": 0,
        "productViews": 3,
        "lastLoginAt": "2026-01-31T11:58:00Z",
        "loggedIn": True,
        "lastProductId": "p-42",
    },
    projections.UserSession: {
        "sessionId": EXAMPLE_ID,
        "startedAt": "2026-01-31T11:58:00Z",
        "views": 3,
        "products": ["p-7", "p-42"],
        "moreProducts": False,
        "endedAt": None,
        "endedBy": None,
        "seconds": None,
    },
    projections.TopProducts: {
        "from": "2026-01-31T00:00:00Z",
        "to": "2026-02-01T00:00:00Z",
        "products": [{"productId": "p-42", "views": 17}],
    },
    projections.HourlyActivity: {
        "from": "2026-01-31T12:00:00Z",
        "to": "2026-01-31T13:00:00Z",
        "hours": [{"hour": "2026-01-31T12:00:00Z", "eventType": "LOGIN", "events": 12, "distinctUsers": 9}],
    },
    Status: {
        "eventId": EXAMPLE_ID,
        "status": "projected",
        "position": "3-1207",
        "occurredAt": "2026-01-31T12:00:00.123456Z",
        "recordedAt": "2026-01-31T12:00:00.125000Z",
        "projectedAt": "2026-01-31T12:00:00.131000Z",
    },
}
# Always false, and always null: generators of clients know neither a constant truth value nor `null` alone.
PLAINER: Json = {
    "success": {"type": "boolean", "not": {"const": True}},
    "event": {"type": ["object", "null"], "not": {"type": "object"}},
    "errors": {"type": ["array", "null"], "items": {"type": "string"}, "minItems": 1},
    "error": {"type": ["string", "null"]},
}


def components() -> Json:
    """Schemas by name. They have no titles: a title would be a second name to generators of clients."""
    _, found = msgspec.json.schema_components([*EXAMPLES, Refusal], ref_template="#/components/schemas/{name}")
    schemas = {name: {key: value for key, value in each.items() if key != "title"} for name, each in found.items()}
    for struct, example in EXAMPLES.items():
        schemas[struct.__name__]["examples"] = [example]
    refusal = {"required": list(PLAINER), "additionalProperties": False, "properties": PLAINER}
    return schemas | {"Refusal": schemas["Refusal"] | refusal}
