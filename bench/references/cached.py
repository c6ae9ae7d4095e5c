"""What the query side with a cache in front could be at best: bare ASGI that sends what Valkey has under the path.

`python -m bench.references.cached PORT`, with `CACHE_URL`.
"""

import os
import sys

from valkey.asyncio import Valkey

from web.asgi import Receive, Scope, Send, respond
from web.server import MAX_CONNECTIONS, run, server_of


class Cached:
    """The ASGI application."""

    def __init__(self, url: str) -> None:
        self._cache = Valkey.from_url(url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers any path with the bytes under it, `?` and all."""
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await self._cache.aclose()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = await self._cache.get(b"%b?%b" % (scope["path"].encode(), scope["query_string"]))
        await respond(send, 200 if body else 404, body or b"", b"application/json")


if __name__ == "__main__":
    sys.exit(run(server_of(Cached(os.environ["CACHE_URL"]), "127.0.0.1", int(sys.argv[1]), MAX_CONNECTIONS)))
