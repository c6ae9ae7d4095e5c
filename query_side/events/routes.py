"""`GET /events/processed` and `GET /events/{eventId}`, straight on ASGI: the answers are JSON already."""

from collections.abc import Awaitable, Callable
from hashlib import blake2b
from uuid import UUID

import asyncpg
from litestar import asgi
from litestar.handlers import ASGIRouteHandler

from query_side.api.responses import JSON, NOT_FOUND, RefusedError, guarded, header, refusal
from query_side.events import queries
from query_side.events.responses import EventPages
from web.asgi import App, Receive, Scope, Send, respond

PROCESSED = "/events/processed"
EVENTS = "/events"
NO_COMMANDS_HERE = "There is no such path: commands are posted to /events/generate, exactly so written."


class EventRoutes:
    """The routes that read events. `pool_of()` gives the pool once the lifespan has opened it."""

    def __init__(
        self,
        pool_of: Callable[[], asyncpg.Pool],
        pages: EventPages,
        status: Callable[[UUID, Scope, Send], Awaitable[None]],
        query_timeout: float,
    ) -> None:
        self._pool_of = pool_of
        self._status = status
        self._query_timeout = query_timeout
        self._processed = guarded(pages.processed)
        self._event = guarded(self.event)

    def handlers(self) -> list[ASGIRouteHandler]:
        """The routes for an application."""
        return [
            asgi(PROCESSED, copy_scope=False)(self._processed),
            # A mount, because Litestar 2.25 answers 500 for an ASGI route with a path parameter.
            asgi(EVENTS, is_mount=True, copy_scope=False)(self._known),
        ]

    def direct(self) -> dict[str, App]:
        """The routes that pass by the router, which costs as much as a page does."""
        return {PROCESSED: self._processed}

    async def _known(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Another method is refused where there is something to get, and nowhere else."""
        if scope["method"] in ("GET", "HEAD") or parse_event_id(scope["path"].strip("/").split("/")[0]) is not None:
            await self._event(scope, receive, send)
        else:
            await respond(send, 404, refusal(NO_COMMANDS_HERE), JSON)

    async def event(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """One event by its id, or its status. An event never changes, so its tag is that of its bytes."""
        text, _, facet = scope["path"].strip("/").partition("/")
        if not text or facet not in ("", "status"):
            raise RefusedError(404, NOT_FOUND)
        event_id = parse_event_id(text)
        if event_id is None:
            raise RefusedError(400, "The event id in the path must be a UUID.")
        if facet == "status":
            await self._status(event_id, scope, send)
            return
        async with self._pool_of().acquire(timeout=self._query_timeout) as connection:
            found = await queries.get_event_by_id(connection, event_id)
        if found is None:
            raise RefusedError(404, "No such event in the read model (it may not be projected yet).")
        body = found.encode()
        tag = entity_tag(body)
        if matches(header(scope, b"if-none-match"), tag):
            await send({"type": "http.response.start", "status": 304, "headers": [(b"etag", tag)]})
            await send({"type": "http.response.body", "body": b""})
        else:
            await respond(send, 200, body, JSON, (b"etag", tag))


def entity_tag(body: bytes) -> bytes:
    """A strong entity tag (RFC 9110, 8.8.3)."""
    return b'"%b"' % blake2b(body, digest_size=12).hexdigest().encode()


def matches(if_none_match: bytes | None, tag: bytes) -> bool:
    """Whether the client has this representation (RFC 9110, 13.1.2: compared weakly)."""
    if if_none_match is None:
        return False
    known = [candidate.strip().removeprefix(b"W/") for candidate in if_none_match.split(b",")]
    return tag in known or known == [b"*"]


def parse_event_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
