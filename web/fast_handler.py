"""What answers a whole request without a task: the types between the server's fast path and the sides."""

from collections.abc import Callable, Iterable
from typing import Protocol

from telemetry.traces.request_trace import RequestTrace
from web.policies.request_head import RequestHead


class BufferedRequest(Protocol):
    """A POST that is here from its first byte to its last, and its one answer: ASGI without a task and its messages."""

    @property
    def head(self) -> RequestHead:
        """As the policies admitted it."""
        ...

    @property
    def body(self) -> bytes:
        """All of it."""
        ...

    @property
    def request_id(self) -> str:
        """As in the answer's `X-Request-ID`."""
        ...

    @property
    def trace(self) -> RequestTrace | None:
        """The trace that it is part of; None: it is part of none."""
        ...

    def on_disconnect(self, leave: Callable[[], None]) -> None:
        """Has `leave` called if the client disconnects before it is answered."""
        ...

    def answer(self, status: int, body: bytes, content_type: bytes, lines: bytes = b"") -> None:
        """Sends the answer; `lines` are further headers, each with its end of line."""
        ...


# Answers a buffered request now or later. If it raises, it has begun nothing, and the request falls back to ASGI.
FastHandler = Callable[[BufferedRequest], None]


def encode_headers(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as `BufferedRequest.answer` takes them."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def decode_headers(lines: bytes) -> list[tuple[bytes, bytes]]:
    """The opposite of `encode_headers`."""
    fields = (line.partition(b": ") for line in lines.split(b"\r\n") if line)
    return [(name, value) for name, _, value in fields]
