"""An event loop that waits for a TLS handshake no longer than for a head: uvicorn leaves asyncio's 60 s."""

from asyncio import Server
from typing import Any

import uvloop

HANDSHAKE_TIMEOUT = 10.0  # seconds; until then, a connection has no place that is counted


class BoundedHandshakes(uvloop.Loop):
    """uvloop's loop, whose TLS servers give up a client that does not complete its handshake."""

    async def create_server(self, *args: Any, **options: Any) -> Server:
        """As uvloop's."""
        if options.get("ssl") is not None:
            options.setdefault("ssl_handshake_timeout", HANDSHAKE_TIMEOUT)
        server: Any = await super().create_server(*args, **options)
        return server  # type: ignore[no-any-return]
