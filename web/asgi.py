"""The few ASGI types that the rooms share."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]  # names in lower case


class Exchange(Protocol):
    """A POST that is here from its first byte to its last, and its one answer: ASGI without a task and its messages."""

    @property
    def headers(self) -> Headers:
        """The request's."""
        ...

    @property
    def body(self) -> bytes:
        """All of it."""
        ...

    @property
    def request_id(self) -> str:
        """As in the answer's `X-Request-ID`."""
        ...

    def when_gone(self, leave: Callable[[], None]) -> None:
        """`leave` is called if the client goes away before it is answered."""
        ...

    def answer(self, status: int, body: bytes, content_type: bytes, lines: bytes = b"") -> None:
        """Sends the answer; `lines` are further headers, each with its end of line."""
        ...


# Takes an exchange and answers it now or later, or leaves it to the ASGI application by False.
Takes = Callable[[Exchange], bool]


WHEN_GONE_KEY = "footfall.when_gone"  # in the scope, where the server tells: takes what to call if the client leaves
HOLD_KEY = "footfall.hold"  # in the scope, where the server can write head and body at once: takes further headers
WHOLE_KEY = "footfall.whole"  # in the start of an answer whose one body follows at once


async def respond(send: Send, status: int, body: bytes, content_type: bytes, *headers: tuple[bytes, bytes]) -> None:
    """Sends one whole response; `headers` come after content-type and content-length."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *headers],
            WHOLE_KEY: bool(body),
        }
    )
    await send({"type": "http.response.body", "body": body})
