"""HTTP/1.0 knows no chunks (RFC 9112, 6.1): an answer of unknown length ends with its connection.

uvicorn sends chunks to everybody; its cycle is told that the length is known, and what it is before the last piece.
"""

import sys
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from web.asgi import App, Message, Receive, Scope, Send

UNKNOWN = sys.maxsize  # bytes that may still come


def until_closed(app: App, cycle: RequestResponseCycle, reset: Callable[[], None]) -> App:
    """`app` for one request of HTTP/1.0. `reset` ends the connection so that half an answer does not look whole."""

    async def unchunked(scope: Scope, receive: Receive, send: Send) -> None:
        endless = False

        async def send_plainly(message: Message) -> None:
            nonlocal endless
            if message["type"] == "http.response.start":
                endless = all(name != b"content-length" for name, _ in message["headers"])
                if endless:
                    cycle.chunked_encoding, cycle.expected_content_length = False, UNKNOWN
            elif endless and not message.get("more_body", False):
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        try:
            await app(scope, receive, send_plainly)
        finally:
            if endless and not cycle.response_complete:
                reset()

    return unchunked
