"""Whole answers as bytes: what a connection says itself, and what is answered without a task."""

import uuid_utils
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from web import envelope
from web.middleware import common_lines

Refusal = tuple[int, str]  # status and sentence

MALFORMED = (400, "The request is not valid HTTP/1.1.")
TOO_SLOW = (408, "The request's head took too long to arrive.")
CROWDED = (503, "Too many connections are open. Nothing was recorded; try again shortly.")


def refusal_of(status: int, error: str) -> bytes:
    """A whole response that closes its connection."""
    body, request_id = envelope.failed(error), str(uuid_utils.uuid7())
    return whole_answer(status, body, b"application/json", b"connection: close\r\n", request_id)


def whole_answer(status: int, body: bytes, content_type: bytes, lines: bytes, request_id: str) -> bytes:
    """A whole response as it is sent. `lines`: further headers, each with its end of line."""
    return b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n%b" % (
        STATUS_LINE[status],
        content_type,
        len(body),
        lines,
        common_lines(request_id),
        body,
    )
