"""The few ASGI types that the rooms share."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]  # names in lower case


ON_DISCONNECT_KEY = "footfall.on_disconnect"  # in the scope of our server: takes what to call if the client disconnects
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
