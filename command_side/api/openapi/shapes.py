"""What the paths share: schemas from the structs of `contracts/`, headers, and refusals in the envelope."""

from typing import Any

import msgspec

from command_side.batch_items import MAX_ITEMS
from contracts.event import MAX_PAYLOAD_BYTES, MAX_PAYLOAD_DEPTH, NO_CONTROL_CHARACTERS, ActivityCommand
from contracts.types import FIRST_TYPES
from contracts.validation.payloads import MAX_FLOAT, MAX_INTEGER, MIN_INTEGER
from contracts.versions import UserEventV1, with_types

Json = dict[str, Any]

JSON = "application/json"

UUID_PATTERN = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
TEXT: Json = {"type": "string", "pattern": "^[^\\u0000]*$"}
# Recursion is what generators of clients cannot do, so the rule itself stands in an extension, for who can check it.
PAYLOAD_VALUE: Json = {
    "description": (
        "Any JSON value that PostgreSQL returns as it was: no U+0000, and numbers within bounds. `x-json-schema` is "
        "the whole rule, as JSON Schema."
    ),
    "x-json-schema": {
        "anyOf": [
            {"type": ["null", "boolean"]},
            TEXT,
            {"type": "integer", "minimum": MIN_INTEGER, "maximum": MAX_INTEGER},
            {"type": "number", "minimum": -MAX_FLOAT, "maximum": MAX_FLOAT},
            {"type": "array", "items": {"$ref": "#/components/schemas/PayloadValue"}},
            {
                "type": "object",
                "propertyNames": TEXT,
                "additionalProperties": {"$ref": "#/components/schemas/PayloadValue"},
            },
        ]
    },
}
KEY_IN_HEADER: Json = {  # bare, or the same in quotes (RFC 9651)
    "type": "string",
    "minLength": 1,
    "maxLength": 512,
    "pattern": r'^([!#-~][!-~]{0,254}|"([!#-\[\]-~]|\\["\\]){1,255}")$',
}
IDEMPOTENCY_KEY: Json = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}
POSITION: Json = {"type": "string", "pattern": "^([0-9]+-[0-9]+|[A-Za-z0-9_-]{59})$"}

EXAMPLE_COMMAND: Json = {
    "userId": "user-123",
    "eventType": "PRODUCT_VIEW",
    "payload": {"productId": "p-42", "referrer": "https://example.com/"},
}
EXAMPLE_BATCH: list[Json] = [
    {"userId": "user-123", "eventType": "LOGIN", "idempotencyKey": "login-77"},
    EXAMPLE_COMMAND,
]
EXAMPLE_EVENT: Json = {
    "eventId": "0197d0c1-7b8a-7cc3-98c4-dc0c0c07398f",
    "userId": "user-123",
    "eventType": "PRODUCT_VIEW",
    "timestamp": "2026-01-31T12:00:00.123456Z",
    "payload": {"productId": "p-42", "referrer": "https://example.com/"},
}


EXAMPLE_ACCEPTED: Json = {"success": True, "event": EXAMPLE_EVENT, "errors": None, "error": None}


class Command(ActivityCommand, frozen=True):
    """A command, by the name that the document has for it."""


class BatchItem(Command, frozen=True):
    """A command of a batch, which may have an idempotency key of its own."""

    idempotency_key: str | None = None


Batch = list[BatchItem]


class Accepted(msgspec.Struct):
    """A command that is recorded."""


class Refusal(msgspec.Struct):
    """Why nothing was recorded."""


class BatchAnswer(msgspec.Struct):
    """What became of each item."""


class ErasureAccepted(msgspec.Struct):
    """The erasure of a user that was asked for."""


def reference(name: str) -> Json:
    """A schema of `components`."""
    return {"$ref": f"#/components/schemas/{name}"}


def always(value: bool) -> Json:
    """One truth value: generators of clients take a constant of this type for a text."""
    return {"type": "boolean", "not": {"const": not value}}


def envelope(event: Json, errors: Json, error: Json, *, success: bool) -> Json:
    """The four keys of every answer."""
    properties = {"success": always(success), "event": event, "errors": errors, "error": error}
    return {
        "type": "object",
        "required": list(properties),
        "additionalProperties": False,
        "properties": properties,
    }


# Always null. Generators of clients do not know the type `null` alone, so it is a nullable type that excludes the rest.
NO_EVENT: Json = {"type": ["object", "null"], "not": {"type": "object"}}
NO_ERROR: Json = {"type": ["string", "null"], "not": {"type": "string"}}
NO_ERRORS: Json = {"type": ["array", "null"], "items": {"type": "string"}, "not": {"type": "array"}}
ERROR: Json = {"type": ["string", "null"]}
ERRORS: Json = {"type": ["array", "null"], "items": {"type": "string"}, "minItems": 1}
REFUSAL: Json = {
    **envelope(NO_EVENT, ERRORS, ERROR, success=False),
    "description": "Why nothing was recorded: one sentence in `error`, or one for each problem in `errors`.",
}


def accepted_item() -> Json:
    """An item of a batch that was recorded."""
    found = envelope(reference("Event"), NO_ERRORS, NO_ERROR, success=True)
    found["properties"] |= {
        "status": {"type": "integer", "enum": [201]},
        # No pattern: Go's client would apply it, and cannot apply one to what may be null.
        "position": {
            "type": ["string", "null"],
            "description": "`<partition>-<offset>`, sealed for other tenants than `default`; null: Kafka cannot tell.",
        },
    }
    found["required"] = [*found["required"], "status", "position"]
    return found


def erasure_accepted() -> Json:
    """The answer to an erasure: the four keys, and what was asked for."""
    texts: Json = {"type": "array", "items": {"type": "string"}}
    properties: Json = {
        "erasureId": {"type": "string", "format": "uuid"},
        "requestedAt": {"type": "string", "format": "date-time"},
        "positions": {**texts, "description": "Of the markers in the log; none for a tenant that gets no positions."},
        "remains": {**texts, "description": "A sentence for each place that keeps bytes."},
    }
    found = envelope(NO_EVENT, NO_ERRORS, NO_ERROR, success=True)
    found["properties"] |= {
        "erasure": {
            "type": "object",
            "required": list(properties),
            "additionalProperties": False,
            "properties": properties,
        }
    }
    found["required"] = [*found["required"], "erasure"]
    return found


def refused_item() -> Json:
    """An item of a batch that was not."""
    found = envelope(NO_EVENT, ERRORS, ERROR, success=False)
    found["properties"] |= {"status": {"type": "integer", "enum": [400, 413, 422, 424, 500, 503]}}
    found["required"] = [*found["required"], "status"]
    return found


# The same without looking ahead, which regular expressions of Go and Rust cannot do.
PLAINER: dict[str, Json] = {NO_CONTROL_CHARACTERS: {"pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$"}}


def untitled(schema: Json) -> Json:
    """As generators of clients want it: the name of the struct would be a second one, and the same for two schemas."""
    properties = {
        name: {**each, **PLAINER.get(each.get("pattern", ""), {})} for name, each in schema["properties"].items()
    }
    return {key: value for key, value in schema.items() if key != "title"} | {"properties": properties}


def components() -> Json:
    """Schemas by name; commands and events come from the structs that decode and encode them."""
    _, found = msgspec.json.schema_components(
        (with_types(ActivityCommand, FIRST_TYPES), with_types(UserEventV1, FIRST_TYPES)),
        ref_template="#/components/schemas/{name}",
    )
    command, event = untitled(found["ActivityCommand"]), untitled(found["UserEventV1"])
    command["properties"]["payload"] |= {
        # What JSON Schema cannot say: the size as encoded, and levels, of which this object is the first.
        "x-max-encoded-bytes": MAX_PAYLOAD_BYTES,
        "x-max-levels": MAX_PAYLOAD_DEPTH,
        "propertyNames": TEXT,
        "additionalProperties": reference("PayloadValue"),
    }
    command["examples"] = [EXAMPLE_COMMAND]
    item = {**command, "description": "A command of a batch, which may have an idempotency key of its own."}
    item["properties"] = {**command["properties"], "idempotencyKey": IDEMPOTENCY_KEY}
    item["examples"] = [{**EXAMPLE_COMMAND, "idempotencyKey": "login-77"}]
    event = {**event, "required": list(event["properties"]), "examples": [EXAMPLE_EVENT]}  # an answer has every field
    event["properties"]["payload"] |= {"additionalProperties": True}
    del event["properties"]["userId"]["pattern"]  # Go's client would apply it, and its expressions know no `\\u0000`
    counts = {name: {"type": "integer", "minimum": 0} for name in ("accepted", "rejected", "unknown")}
    return {
        "Command": command,
        "BatchItem": item,
        "Batch": {"type": "array", "minItems": 1, "maxItems": MAX_ITEMS, "items": reference("BatchItem")},
        "PayloadValue": PAYLOAD_VALUE,
        "Event": event,
        "Accepted": {
            **envelope(reference("Event"), NO_ERRORS, NO_ERROR, success=True),
            "examples": [EXAMPLE_ACCEPTED],
        },
        "ErasureAccepted": erasure_accepted(),
        "Refusal": REFUSAL,
        "AcceptedItem": accepted_item(),
        "RefusedItem": refused_item(),
        "ItemResult": {"oneOf": [reference("AcceptedItem"), reference("RefusedItem")]},
        "BatchAnswer": {
            "type": "object",
            "description": "What became of each item, in order; the three numbers add up to the items.",
            "required": ["success", *counts, "results"],
            "additionalProperties": False,
            "properties": {
                "success": {"type": "boolean", "description": "All were accepted."},
                **counts,
                "results": {"type": "array", "minItems": 1, "maxItems": MAX_ITEMS, "items": reference("ItemResult")},
            },
        },
    }
