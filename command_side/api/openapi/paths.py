"""The paths of commands."""

from command_side.api import batch as batch_route
from command_side.api import responses as answers
from command_side.api.openapi.shapes import (
    EXAMPLE_BATCH,
    EXAMPLE_COMMAND,
    EXAMPLE_EVENT,
    JSON,
    KEY_IN_HEADER,
    POSITION,
    RETRY_AFTER,
    UUID_PATTERN,
    Json,
    answered,
    reference,
    refused,
)
from command_side.api.request import too_large
from command_side.api.single import GENERATE
from command_side.settings import CommandSettings

NDJSON = batch_route.NDJSON.decode()
LIMITS = {name: field.default for name, field in CommandSettings.model_fields.items()}

EXAMPLE_ACCEPTED: Json = {"success": True, "event": EXAMPLE_EVENT, "errors": None, "error": None}
EXAMPLE_RESULT: Json = {"status": 201, **EXAMPLE_ACCEPTED, "position": "3-1741"}
EXAMPLE_REFUSED_RESULT: Json = {
    "status": 400,
    "success": False,
    "event": None,
    "errors": ["Field `eventType` must be one of LOGIN, LOGOUT, PRODUCT_VIEW."],
    "error": None,
}

REQUEST_ID_PARAMETER: Json = {
    "name": "X-Request-ID",
    "in": "header",
    "description": "Echoed, and kept with the event, when it is 1 to 128 visible ASCII characters; else replaced.",
    "schema": {"type": "string"},
    "example": "trace-42",
}

# What every command may be answered, whatever its body.
REFUSALS: Json = {
    "405": refused(
        "Only POST.",
        "Method GET is not allowed here; use POST.",
        {"Allow": {"description": "The method.", "schema": {"type": "string", "const": "POST"}}},
    ),
    "408": refused("Head or body took too long; the connection is closed.", answers.BODY_TOO_SLOW),
    "414": refused("The target is longer than 8 KiB.", "The request target is longer than 8 KiB."),
    "415": refused("Not JSON in UTF-8, or compressed.", "Content-Type must be application/json."),
    "431": refused("The head is too large.", "The request's head is larger than 32 KiB or has over 100 headers."),
    "503": refused(
        "Overloaded, or Kafka is away: nothing was recorded. Or it did not answer in time: the outcome is unknown, "
        "and the sentence says so.",
        answers.AWAY,
        RETRY_AFTER,
    ),
}

GENERATE_PATH: Json = {
    "post": {
        "operationId": "generateEvent",
        "summary": "Record one activity.",
        "description": "Answered once all in-sync replicas of Kafka have the event.",
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "Repeats with the same key are one event, for ever. Bare or in quotes: the same key.",
                "schema": KEY_IN_HEADER,
                "example": "order-1842-viewed",
            },
            REQUEST_ID_PARAMETER,
        ],
        "requestBody": {
            "required": True,
            "description": "At most 64 KiB. Its payload is at most 16 KiB encoded and 16 levels deep. No key twice. "
            "JSON Schema has no words for these; for programs, the numbers are in `x-` keywords.",
            "x-max-bytes": LIMITS["max_body_bytes"],
            "content": {JSON: {"schema": reference("Command"), "example": EXAMPLE_COMMAND}},
        },
        "responses": {
            "201": answered(
                "Recorded.",
                reference("Accepted"),
                EXAMPLE_ACCEPTED,
                {
                    "Location": {
                        "description": "Where the event will be found.",
                        "required": True,
                        "schema": {"type": "string", "pattern": f"^/events/{UUID_PATTERN}$"},
                        "example": f"/events/{EXAMPLE_EVENT['eventId']}",
                    },
                    "Footfall-Position": {
                        "description": "Its place in the log, `<partition>-<offset>`; absent when Kafka cannot tell.",
                        "schema": POSITION,
                        "example": "3-1741",
                    },
                },
            ),
            "400": refused(
                "The body is not a valid command, the key is not valid, or the request is no HTTP/1.1.",
                EXAMPLE_REFUSED_RESULT["errors"][0],
                listed=True,
            ),
            "413": refused(
                "The body is larger than 64 KiB, or the event than the topic takes.",
                too_large(LIMITS["max_body_bytes"]),
            ),
            "422": refused("The key was used for another command.", answers.KEY_CONFLICT),
            "500": refused("Certainly not recorded.", answers.NOT_PUBLISHED),
            **REFUSALS,
        },
    }
}

BATCH_ANSWER = reference("BatchAnswer")


def batch_answered(description: str, *results: Json, headers: Json | None = None) -> Json:
    """A response with a result for each item."""
    statuses = [result["status"] for result in results]
    accepted, unknown = statuses.count(201), statuses.count(503)
    example: Json = {
        "success": accepted == len(results),
        "accepted": accepted,
        "rejected": len(results) - accepted - unknown,
        "unknown": unknown,
        "results": list(results),
    }
    either = {"anyOf": [BATCH_ANSWER, reference("Refusal")]}
    return answered(description, BATCH_ANSWER if accepted else either, example, headers)


def refused_result(status: int, error: str) -> Json:
    """The result of an item that something else than its fields kept out."""
    return {"status": status, "success": False, "event": None, "errors": None, "error": error}


BATCH_PATH: Json = {
    "post": {
        "operationId": "generateEvents",
        "summary": "Record up to 1,000 activities.",
        "description": "Valid items are recorded though others are not. Events of one user keep the order of their "
        "items. A request that cannot be taken at all is answered with a `Refusal`.",
        "parameters": [
            {
                "name": "atomic",
                "in": "query",
                "description": "Publish nothing unless every item can be.",
                "schema": {"type": "boolean", "default": False},
                "example": True,
            },
            REQUEST_ID_PARAMETER,
        ],
        "requestBody": {
            "required": True,
            "description": "At most 1 MiB. Each item is a command, with the bounds of one. As lines of JSON, "
            f"`{NDJSON}`, each item is one line and an empty line is none; the schema is that of the items in their "
            "order, as OpenAPI 3.2 reads such media types.",
            "x-max-bytes": LIMITS["batch_max_body_bytes"],
            "content": {
                JSON: {"schema": reference("Batch"), "example": EXAMPLE_BATCH},
                NDJSON: {"schema": reference("Batch"), "example": EXAMPLE_BATCH},
            },
        },
        "responses": {
            "201": batch_answered("Every item is recorded.", EXAMPLE_RESULT),
            "207": batch_answered("Some items are recorded, others refused.", EXAMPLE_RESULT, EXAMPLE_REFUSED_RESULT),
            "400": batch_answered("No item is recorded, or this is no batch.", EXAMPLE_REFUSED_RESULT),
            "413": refused("The body is larger than 1 MiB.", too_large(LIMITS["batch_max_body_bytes"])),
            "422": batch_answered(
                "The key of every item was used for another command.", refused_result(422, answers.KEY_CONFLICT)
            ),
            "500": batch_answered("Certainly none is recorded.", refused_result(500, answers.NOT_PUBLISHED)),
            **REFUSALS,
            "503": batch_answered(
                "Overloaded or Kafka is away (`Refusal`); or the outcome of at least one item is unknown.",
                refused_result(503, answers.OUTCOME_UNKNOWN),
                headers=RETRY_AFTER,
            ),
        },
    }
}

PATHS: Json = {GENERATE: GENERATE_PATH, batch_route.BATCH: BATCH_PATH}
