"""What several paths share: schemas, parameters and responses."""

from typing import Any

import msgspec

from query_side.activity import queries as projections
from query_side.api.negotiation import ARROW, CSV, JSON, NDJSON, PARQUET
from query_side.api.parameters import MAX_REPEATS, MAX_TEXT_LENGTH
from query_side.events.filters import DEFAULT_LIMIT, EVENT_TYPES, MAX_LIMIT, ORDERS
from query_side.feed.event_status import Status

Json = dict[str, Any]

NO_CONTROL_CHARACTERS = r"^[^\u0000-\u001f\u007f-\u009f]+$"
# A time with an offset, or a date. `format` alone would let more through than there is.
MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2}))?$"
CURSOR = r"^[A-Za-z0-9_-]{22,4096}$"

EXAMPLE_ID = "0197d0c1-7b8a-7cc3-98c4-dc0c0c07398f"
EXAMPLE_EVENT: Json = {
    "eventId": EXAMPLE_ID,
    "userId": "user-123",
    "eventType": "PRODUCT_VIEW",
    "timestamp": "2026-01-31T12:00:00.123456Z",
    "payload": {"productId": "p-42", "referrer": "https://example.com/"},
}
EXAMPLE_CURSOR = "uZ0Xv2cQm0m4iJk0QbX7MQAGSaAF5Q5AAZfQwXuKfMOYxNwMDAc5jw"

NAME: Json = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_LENGTH, "pattern": NO_CONTROL_CHARACTERS}
EVENT: Json = {
    "type": "object",
    "description": "An immutable fact: who did what, and when.",
    "required": ["eventId", "userId", "eventType", "timestamp", "payload"],
    "additionalProperties": False,
    "properties": {
        "eventId": {"type": "string", "format": "uuid", "description": "Unique id of the event."},
        "userId": {**NAME, "description": "Who acted."},
        "eventType": {"type": "string", "enum": list(EVENT_TYPES)},
        "timestamp": {"type": "string", "format": "date-time", "description": "When it happened, in UTC."},
        "payload": {"type": "object", "description": "Free-form details.", "additionalProperties": True},
    },
    "examples": [EXAMPLE_EVENT],
}
REFUSAL: Json = {
    "type": "object",
    "description": "Why there is no answer: one sentence in `error`, or one for each problem in `errors`.",
    "required": ["success", "event", "errors", "error"],
    "additionalProperties": False,
    "properties": {
        # Always false, and always null: generators of clients know neither a constant truth value nor `null` alone.
        "success": {"type": "boolean", "not": {"const": True}},
        "event": {"type": ["object", "null"], "not": {"type": "object"}},
        "errors": {"type": ["array", "null"], "items": {"type": "string"}, "minItems": 1},
        "error": {"type": ["string", "null"]},
    },
}


def components() -> Json:
    """Schemas by name; those of the projections come from the structs that are encoded."""
    structs = (
        projections.UserActivity,
        projections.UserSession,
        projections.ProductViews,
        projections.HourOfActivity,
        Status,
    )
    _, found = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    untitled = {name: {key: value for key, value in schema.items() if key != "title"} for name, schema in found.items()}
    return {"Event": EVENT, "Refusal": REFUSAL, **untitled}


def reference(name: str) -> Json:
    """A schema of `components`."""
    return {"$ref": f"#/components/schemas/{name}"}


def listed(name: str) -> Json:
    """An array of them."""
    return {"type": "array", "items": reference(name)}


# --- parameters ------------------------------------------------------------------------------------------------------


def parameter(name: str, description: str, schema: Json, **more: Any) -> Json:
    """A parameter of the query string."""
    return {"name": name, "in": "query", "description": description, "schema": schema, **more}


def limit(most: int = MAX_LIMIT, default: int = DEFAULT_LIMIT) -> Json:
    """How many at most."""
    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return parameter("limit", "How many at most.", schema, example=min(default, 100))


EVENT_ID_IN_PATH: Json = {
    "name": "eventId",
    "in": "path",
    "required": True,
    "description": "The event's id.",
    "schema": {"type": "string", "format": "uuid"},
    "example": EXAMPLE_ID,
}
USER_ID_IN_PATH: Json = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "Who acted, percent-encoded; `%2F` belongs to the id.",
    "schema": NAME,
    "example": "user-123",
}
MOMENT_RULE = "a date (its first moment in UTC), or a time with an offset"
FROM = parameter(
    "from", f"Not earlier than this: {MOMENT_RULE}.", {"type": "string", "pattern": MOMENT}, example="2026-01-31"
)
TO = parameter(
    "to", f"Earlier than this: {MOMENT_RULE}.", {"type": "string", "pattern": MOMENT}, example="2026-02-01T00:00:00Z"
)
PRODUCT_ID = parameter("productId", "Views of this product.", NAME, example="p-42")
EVENT_TYPE = parameter(
    "eventType",
    "Only this type; may be repeated.",
    {"type": "array", "items": {"type": "string", "enum": list(EVENT_TYPES)}, "maxItems": MAX_REPEATS},
    style="form",
    explode=True,
    example=["LOGIN", "LOGOUT"],
)
ORDER = parameter(
    "order", "Oldest or newest first.", {"type": "string", "enum": list(ORDERS), "default": "asc"}, example="desc"
)
CURSOR_PARAMETER = parameter(
    "cursor",
    "Where to go on: as the `Link` of the page before has it. Good for the same request only.",
    {"type": "string", "pattern": CURSOR},
)
USER_ID = parameter("userId", "Events of this user.", NAME, example="user-123")

# --- responses -------------------------------------------------------------------------------------------------------

REQUEST_ID: Json = {"X-Request-ID": {"description": "The request's id, also in the log.", "schema": {"type": "string"}}}
LINK: Json = {
    "Link": {
        "description": 'The next page, `<..>; rel="next"` (RFC 8288); absent on the last one.',
        "schema": {"type": "string"},
        "example": f'</events/processed?limit=100&cursor={EXAMPLE_CURSOR}>; rel="next"',
    }
}


def answered(description: str, schema: Json, example: Any, headers: Json | None = None) -> Json:
    """200 with JSON."""
    content = {JSON: {"schema": schema, "example": example}}
    return {"description": description, "headers": {**REQUEST_ID, **(headers or {})}, "content": content}


def events_answered(description: str) -> Json:
    """200 with events, in every format."""
    line = msgspec.json.encode(EXAMPLE_EVENT).decode()
    text = {"type": "string"}
    row = (
        "eventId,userId,eventType,timestamp,payload\r\n"
        f'{EXAMPLE_ID},user-123,LOGIN,2026-01-31T12:00:00.123456Z,"{{""n"":1}}"\r\n'
    )
    found = answered(description, listed("Event"), [EXAMPLE_EVENT], LINK)
    found["content"] |= {
        NDJSON: {"schema": text, "example": f"{line}\n"},
        CSV: {"schema": text, "example": row},
        ARROW: {"schema": text},
        PARQUET: {"schema": text},
    }
    return found


def refused(description: str, *sentences: str, listed_problems: bool = False, headers: Json | None = None) -> Json:
    """A refusal in the envelope, with an example of each."""
    body: Json = {"success": False, "event": None, "errors": None, "error": None}
    example = body | ({"errors": list(sentences)} if listed_problems else {"error": sentences[0]})
    return answered(description, reference("Refusal"), example, headers)


RETRY_AFTER: Json = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}

BAD_REQUEST = refused(
    "A parameter is unknown, repeated or malformed, or a cursor is of another request.",
    "Parameter `limit` must be a whole number from 1 to 1000.",
    listed_problems=True,
)
NOT_ACCEPTABLE = refused(
    "None of the formats is in `Accept`.", "This is answered as application/json; none of them is in Accept."
)
METHOD_NOT_ALLOWED = refused(
    "Only GET and HEAD.",
    "Method POST is not allowed here; use GET.",
    headers={"Allow": {"description": "The methods.", "schema": {"type": "string", "const": "GET, HEAD"}}},
)
UNAVAILABLE = refused(
    "The database is away, too many exports or streams run, or a position was not reached in time.",
    "The read model is not available; try again shortly.",
    headers={
        **RETRY_AFTER,
        "Footfall-Reached": {
            "description": "How far the read model is in the partition of a position that was not reached.",
            "schema": {"type": "string"},
        },
    },
)


def responses(answer: Json, *, parameters: bool = True, negotiated: bool = True, **more: Json) -> Json:
    """Responses by status: this answer for 200, `more` as `s404=..`, and what every path may say."""
    return {
        "200": answer,
        **{status.removeprefix("s"): response for status, response in more.items()},
        **({"400": BAD_REQUEST} if parameters and "s400" not in more else {}),
        "405": METHOD_NOT_ALLOWED,
        **({"406": NOT_ACCEPTABLE} if negotiated else {}),
        "503": UNAVAILABLE,
    }
