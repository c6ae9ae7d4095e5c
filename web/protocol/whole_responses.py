"""Whole answers as bytes: what is answered without a task."""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from web.middleware import common_lines


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
