"""What the OpenAPI document says of the answers, beside what their types say."""

from http import HTTPStatus
from typing import Any

import msgspec
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example

from query_side.api.declared import EXAMPLE_CURSOR
from web.policies.access import FORBIDDEN, NO_CREDENTIALS
from web.policies.limits.rate_limits import LIMITED
from web.policies.principal import AccessScope

Json = dict[str, Any]


class Refusal(msgspec.Struct, frozen=True):
    """Why there is no answer: one sentence in `error`, or one for each problem in `errors`."""

    success: bool = False
    event: None = None
    errors: list[str] | None = None
    error: str | None = None


LINK = ResponseHeader(
    name="Link",
    documentation_only=True,
    description='The next page, `<..>; rel="next"` (RFC 8288); absent on the last one.',
    example=f'</events/processed?limit=100&cursor={EXAMPLE_CURSOR}>; rel="next"',
)


def refused(description: str, *sentences: str, listed_problems: bool = False) -> ResponseSpec:
    """A refusal in the envelope, with an example."""
    body = Refusal(errors=list(sentences)) if listed_problems else Refusal(error=sentences[0])
    return ResponseSpec(Refusal, description=description, generate_examples=False, examples=[Example(value=body)])


BAD_REQUEST = refused(
    "A parameter is unknown, repeated or malformed, or a cursor is of another request.",
    "Parameter `limit` must be a whole number from 1 to 1000.",
    listed_problems=True,
)
METHOD_NOT_ALLOWED = refused("Only GET and HEAD.", "Method POST is not allowed here; use GET.")
NOT_ACCEPTABLE = refused(
    "None of the formats is in `Accept`.", "This is answered as application/json; none of them is in Accept."
)
SET_ASIDE = refused(
    "The record at a position that was asked for is parked, or was discarded: waiting is no use.",
    "The event at position 3-1207 is parked (poison): Field `userId` is required.",
)
UNAVAILABLE = refused(
    "The database is away, too many exports or streams run, or a position was not reached in time.",
    "The read model is not available; try again shortly.",
)

UNAUTHORIZED = refused("No credentials, or none that are accepted: the challenge says why.", NO_CREDENTIALS.error)
WITHOUT_SCOPE = refused("The credentials lack the scope.", FORBIDDEN[AccessScope.EVENTS_READ].error)
TOO_MANY = refused("A limit of the client is used up, or it holds its share.", LIMITED.format("subject"))

OF_EVERY_READ: dict[int, ResponseSpec] = {
    HTTPStatus.BAD_REQUEST: BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED: UNAUTHORIZED,
    HTTPStatus.FORBIDDEN: WITHOUT_SCOPE,
    HTTPStatus.TOO_MANY_REQUESTS: TOO_MANY,
    HTTPStatus.METHOD_NOT_ALLOWED: METHOD_NOT_ALLOWED,
    HTTPStatus.CONFLICT: SET_ASIDE,
    HTTPStatus.SERVICE_UNAVAILABLE: UNAVAILABLE,
}
# Of routes that answer in one of several formats, or in JSON only if the client takes it.
NEGOTIATED = {**OF_EVERY_READ, HTTPStatus.NOT_ACCEPTABLE: NOT_ACCEPTABLE}

TEXT: Json = {"description": "See the IETF draft `ratelimit-headers`.", "schema": {"type": "string"}}
CHALLENGE: Json = {"WWW-Authenticate": {"description": "What is needed (RFC 6750).", "schema": {"type": "string"}}}
# Headers of answers, by status; `*`: of every one.
HEADERS: dict[str, Json] = {
    "*": {"X-Request-ID": {"description": "The request's id, also in the log.", "schema": {"type": "string"}}},
    "405": {"Allow": {"description": "The methods.", "schema": {"type": "string", "const": "GET, HEAD"}}},
    "401": CHALLENGE,
    "403": CHALLENGE,
    "429": {
        "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
        "RateLimit": TEXT,
        "RateLimit-Policy": TEXT,
    },
    "503": {
        "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
        "Footfall-Reached": {
            "description": "How far the read model is in the partition of a position that was not reached.",
            "schema": {"type": "string"},
        },
    },
}
