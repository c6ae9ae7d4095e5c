"""The commands as Litestar would have them: signatures that the OpenAPI document is generated from.

Plain ASGI answers these paths (`web/hot_routes.py` says why), so nothing here is ever called.
"""

from typing import Annotated

from litestar import delete, post
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import HeaderParameter, JSONBody, QueryParameter

from command_side.api import batch as batch_route
from command_side.api import erasure, responses
from command_side.api.openapi.shapes import (
    EXAMPLE_ACCEPTED,
    EXAMPLE_BATCH,
    EXAMPLE_EVENT,
    JSON,
    KEY_IN_HEADER,
    POSITION,
    UUID_PATTERN,
    Accepted,
    Batch,
    BatchAnswer,
    Command,
    ErasureAccepted,
    Json,
    Refusal,
    reference,
)
from command_side.api.single import GENERATE
from command_side.policies.command_heads import too_large
from command_side.publishing.event_log import Away, Failed
from command_side.settings import CommandSettings
from contracts.erasure import what_remains
from web.openapi import DOCUMENTED, Exactly
from web.policies.access import FORBIDDEN, NO_CREDENTIALS
from web.policies.limits.rate_limits import LIMITED
from web.policies.principal import AccessScope

NDJSON = batch_route.NDJSON.decode()
LIMITS = {name: field.default for name, field in CommandSettings.model_fields.items()}

EXAMPLE_RESULT: Json = {"status": 201, **EXAMPLE_ACCEPTED, "position": "3-1741"}
EXAMPLE_REFUSED_RESULT: Json = {
    "status": 400,
    "success": False,
    "event": None,
    "errors": ["Field `eventType` must be one of LOGIN, LOGOUT, PRODUCT_VIEW."],
    "error": None,
}

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="Repeats with the same key are one event, for ever. Bare or in quotes: the same key.",
        schema_extra=KEY_IN_HEADER,
        examples=[Example(value="order-1842-viewed")],
    ),
]
RequestId = Annotated[
    str | None,
    HeaderParameter(
        name="X-Request-ID",
        description="Echoed, and kept with the event, when it is 1 to 128 visible ASCII characters; else replaced.",
        examples=[Example(value="trace-42")],
    ),
]
Atomic = Annotated[
    bool,
    QueryParameter(
        name="atomic", description="Publish nothing unless every item can be.", examples=[Example(value=True)]
    ),
]


def refused(description: str, sentence: str, *, listed: bool = False) -> ResponseSpec:
    """A refusal in the envelope; with `listed`, its sentences stand in `errors`."""
    body: Json = {"success": False, "event": None, "errors": None, "error": sentence}
    if listed:
        body |= {"errors": [sentence], "error": None}
    return answered(Refusal, description, body)


def batch_answered(description: str, *results: Json) -> ResponseSpec:
    """An answer with a result for each item; or, where none was accepted, a refusal of all of them."""
    statuses = [result["status"] for result in results]
    accepted, unknown = statuses.count(201), statuses.count(503)
    body: Json = {
        "success": accepted == len(results),
        "accepted": accepted,
        "rejected": len(results) - accepted - unknown,
        "unknown": unknown,
        "results": list(results),
    }
    return answered(BatchAnswer if accepted else BatchAnswer | Refusal, description, body)


def answered(kind: object, description: str, body: Json) -> ResponseSpec:
    """An answer of this type, with an example."""
    found = [Example(value=Exactly(body))]
    return ResponseSpec(kind, description=description, generate_examples=False, examples=found)  # type: ignore[arg-type]


def refused_result(status: int, error: str) -> Json:
    """The result of an item that something else than its fields kept out."""
    return {"status": status, "success": False, "event": None, "errors": None, "error": error}


# What every command may be answered, whatever its body.
REFUSALS = {
    401: refused("No credentials, or none that are accepted: the challenge says why.", NO_CREDENTIALS.error),
    403: refused("The credentials lack the scope `events:write`.", FORBIDDEN[AccessScope.EVENTS_WRITE].error),
    405: refused("Only POST.", "Method GET is not allowed here; use POST."),
    408: refused("Head or body took too long; the connection is closed.", responses.BODY_TOO_SLOW),
    414: refused("The target is longer than 8 KiB.", "The request target is longer than 8 KiB."),
    415: refused("Not JSON in UTF-8, or compressed.", "Content-Type must be application/json."),
    429: refused(
        "A limit of the client is used up, or the quota of its tenant: nothing was recorded.", LIMITED.format("subject")
    ),
    431: refused("The head is too large.", "The request's head is larger than 32 KiB or has over 100 headers."),
}
TEXT: Json = {"description": "See the IETF draft `ratelimit-headers`.", "schema": {"type": "string"}}
WAIT: Json = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}}}
CHALLENGE: Json = {"WWW-Authenticate": {"description": "What is needed (RFC 6750).", "schema": {"type": "string"}}}
# Headers of answers, by status; `*`: of every one.
HEADERS: dict[str, Json] = {
    "*": {"X-Request-ID": {"description": "The request's id, also in the log.", "schema": {"type": "string"}}},
    "405": {"Allow": {"description": "The method.", "schema": {"type": "string", "const": "POST"}}},
    "401": CHALLENGE,
    "403": CHALLENGE,
    "429": {**WAIT, "RateLimit": TEXT, "RateLimit-Policy": TEXT},
    "503": WAIT,
}


@post(
    GENERATE,
    operation_id="generateEvent",
    summary="Record one activity.",
    description="Answered once all in-sync replicas of Kafka have the event.",
    response_description="Recorded.",
    response_headers=[
        ResponseHeader(
            name="Location",
            documentation_only=True,
            required=True,
            description="Where the event will be found.",
            example=f"/events/{EXAMPLE_EVENT['eventId']}",
        ),
        ResponseHeader(
            name="Footfall-Position",
            documentation_only=True,
            description="Its place in the log, `<partition>-<offset>`; absent when Kafka cannot tell.",
            example="3-1741",
        ),
    ],
    responses={
        400: refused(
            "The body is not a valid command, the key is not valid, or the request is no HTTP/1.1.",
            EXAMPLE_REFUSED_RESULT["errors"][0],
            listed=True,
        ),
        413: refused(
            "The body is larger than 64 KiB, or the event than the topic takes.", too_large(LIMITS["max_body_bytes"])
        ),
        422: refused("The key was used for another command.", responses.KEY_CONFLICT),
        500: refused("Certainly not recorded.", responses.NOT_PUBLISHED),
        **REFUSALS,
        503: refused(
            "Overloaded, or Kafka is away: nothing was recorded. Or it did not answer in time: the outcome is unknown, "
            "and the sentence says so.",
            responses.AWAY,
        ),
    },
    opt={
        DOCUMENTED: {
            "requestBody": {
                "description": "At most 64 KiB. Its payload is at most 16 KiB encoded and 16 levels deep. No key "
                "twice. JSON Schema has no words for these; for programs, the numbers are in `x-` keywords.",
                "x-max-bytes": LIMITS["max_body_bytes"],
            },
            "responses": {
                "201": {
                    "headers": {
                        "Location": {"schema": {"pattern": f"^/events/{UUID_PATTERN}$"}},
                        "Footfall-Position": {"schema": POSITION},
                    }
                }
            },
        }
    },
)
async def generate_event(data: JSONBody[Command], key: IdempotencyKey = None, request_id: RequestId = None) -> Accepted:
    raise NotImplementedError


@post(
    batch_route.BATCH,
    operation_id="generateEvents",
    summary="Record up to 1,000 activities.",
    description="Valid items are recorded though others are not. Events of one user keep the order of their items. A "
    "request that cannot be taken at all is answered with a `Refusal`.",
    responses={
        201: batch_answered("Every item is recorded.", EXAMPLE_RESULT),
        207: batch_answered("Some items are recorded, others refused.", EXAMPLE_RESULT, EXAMPLE_REFUSED_RESULT),
        400: batch_answered("No item is recorded, or this is no batch.", EXAMPLE_REFUSED_RESULT),
        413: refused("The body is larger than 1 MiB.", too_large(LIMITS["batch_max_body_bytes"])),
        422: batch_answered(
            "The key of every item was used for another command.", refused_result(422, responses.KEY_CONFLICT)
        ),
        500: batch_answered("Certainly none is recorded.", refused_result(500, responses.NOT_PUBLISHED)),
        **REFUSALS,
        503: batch_answered(
            "Overloaded or Kafka is away (`Refusal`); or the outcome of at least one item is unknown.",
            refused_result(503, responses.OUTCOME_UNKNOWN),
        ),
    },
    opt={
        DOCUMENTED: {
            "requestBody": {
                "description": "At most 1 MiB. Each item is a command, with the bounds of one. As lines of JSON, "
                f"`{NDJSON}`, each item is one line and an empty line is none; the schema is that of the items in "
                "their order, as OpenAPI 3.2 reads such media types.",
                "x-max-bytes": LIMITS["batch_max_body_bytes"],
                "content": {kind: {"schema": reference("Batch"), "example": EXAMPLE_BATCH} for kind in (JSON, NDJSON)},
            }
        }
    },
)
async def generate_events(data: JSONBody[Batch], atomic: Atomic = False, request_id: RequestId = None) -> BatchAnswer:
    raise NotImplementedError


EXAMPLE_ERASED: Json = {
    "success": True,
    "event": None,
    "errors": None,
    "error": None,
    "erasure": {
        "erasureId": EXAMPLE_EVENT["eventId"],
        "requestedAt": EXAMPLE_EVENT["timestamp"],
        "positions": ["0-17", "1-23"],
        "remains": what_remains("The log"),
    },
}
ERASED: dict[int, ResponseSpec] = {
    202: answered(ErasureAccepted, "The request is in the log; rows go when projectors reach it.", EXAMPLE_ERASED),
    400: refused("No user can have this id.", erasure.BAD_USER, listed=True),
    401: REFUSALS[401],
    403: refused("The credentials lack the scope `privacy`.", FORBIDDEN[AccessScope.PRIVACY].error),
    429: REFUSALS[429],
    500: refused("Some partition may have no marker: send it again.", erasure.REFUSALS[Failed].error),
    503: refused("Kafka is away or did not answer in time: send it again.", erasure.REFUSALS[Away].error),
}


@delete(
    erasure.ERASE,
    operation_id="eraseUser",
    summary="Forget a user.",
    description="Needs the scope `privacy`. To ask again does no harm.",
    status_code=202,
    responses=ERASED,
)
async def erase_user(user_id: erasure.UserInPath) -> ErasureAccepted:
    raise NotImplementedError


@delete(
    erasure.ERASE_ANY,
    operation_id="eraseAnyUser",
    summary="Forget a user whose id no path can carry.",
    description="Clients resolve `.` and `..`, and what stands before us may unescape `%2F`.",
    status_code=202,
    responses=ERASED,
)
async def erase_any_user(user_id: erasure.UserInQuery) -> ErasureAccepted:
    raise NotImplementedError


DECLARED = [generate_event, generate_events, erase_user, erase_any_user]
