"""The application with which pages are compared, bare ASGI on asyncpg: `python -m bench.references.pages PORT`.

It runs the query side's own statements over a plain asyncpg pool and joins the rows, without checks of parameters,
cursors, `Link` headers or formats. `/array` returns all events with one fetch.
"""

import os
import sys

import asyncpg

from query_side.api.parameters import Parameters
from query_side.events import pages, queries
from query_side.events.filters import EventFilter
from read_model.connecting.database_url import parse
from web.asgi import Receive, Scope, Send, respond
from web.server import MAX_CONNECTIONS, run, server_of

LIMIT = 100


class BarePages:
    """The ASGI application."""

    def __init__(self, database_url: str) -> None:
        self._url = parse(database_url).driver()
        self._by_user = pages.sql(EventFilter(user_id=""))
        self._by_time = pages.sql(EventFilter())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a page by user, a page by time, or all events."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["path"] == "/array":
            arguments: tuple[object, ...]
            statement, arguments = queries.ALL_EVENTS, ("default",)
        else:
            name, _, value = scope["query_string"].partition(b"&")[0].partition(b"=")
            if name == b"userId":
                wanted = EventFilter(user_id=value.decode())
                statement = self._by_user
            else:
                wanted = EventFilter(since=Parameters(b"from=" + value, ("from",)).moment("from"))
                statement = self._by_time
            arguments = pages.arguments("default", wanted, None, LIMIT)
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(statement, *arguments)
        body = b"[" + ",".join([row[0] for row in rows]).encode() + b"]"
        await respond(send, 200, body, b"application/json")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._pool = await asyncpg.create_pool(self._url, min_size=10, max_size=10)
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                await self._pool.close()
                return


if __name__ == "__main__":
    app = BarePages(os.environ["DATABASE_URL"])
    sys.exit(run(server_of(app, "127.0.0.1", int(sys.argv[1]), MAX_CONNECTIONS)))
