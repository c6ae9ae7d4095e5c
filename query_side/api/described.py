"""What the OpenAPI document says of the answers, beside what their types say."""

from http import HTTPStatus
from typing import Any

import msgspec
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example

from query_side.api.declared import EXAMPLE_CURSOR

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

OF_EVERY_READ: dict[int, ResponseSpec] = {
    HTTPStatus.BAD_REQUEST: BAD_REQUEST,
    HTTPStatus.METHOD_NOT_ALLOWED: METHOD_NOT_ALLOWED,
    HTTPStatus.CONFLICT: SET_ASIDE,
    HTTPStatus.SERVICE_UNAVAILABLE: UNAVAILABLE,
}
# Of routes that answer in one of several formats, or in JSON only if the client takes it.
NEGOTIATED = {**OF_EVERY_READ, HTTPStatus.NOT_ACCEPTABLE: NOT_ACCEPTABLE}

# Headers of answers, by status; `*`: of every one.
HEADERS: dict[str, Json] = {
    "*": {"X-Request-ID": {"description": "The request's id, also in the log.", "schema": {"type": "string"}}},
    "405": {"Allow": {"description": "The methods.", "schema": {"type": "string", "const": "GET, HEAD"}}},
    "503": {
        "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
        "Footfall-Reached": {
            "description": "How far the read model is in the partition of a position that was not reached.",
            "schema": {"type": "string"},
        },
    },
}
