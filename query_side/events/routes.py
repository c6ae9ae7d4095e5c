"""`GET /events/processed` and `GET /events/{eventId}`, straight on ASGI: the answers are JSON already."""

from collections.abc import Callable
from hashlib import blake2b
from urllib.parse import quote

import asyncpg

from query_side.api.asking import tenant_of
from query_side.api.parameters import DOT_SEGMENTS, Parameters, event_id_of, user_id_of
from query_side.api.responses import JSON, guarded, header
from query_side.events import queries
from query_side.events.forgotten import Forgotten, forgotten
from query_side.events.responses import EventPages
from web import envelope
from web.asgi import App, Receive, Scope, Send, respond
from web.policies.decisions import RefusedError

PROCESSED = "/events/processed"
NO_COMMANDS_HERE = "There is no such path: commands are posted to /events/generate, exactly so written."


class EventRoutes:
    """The routes that read events. `pool_of()` gives the pool once the lifespan has opened it."""

    def __init__(
        self,
        pool_of: Callable[[], asyncpg.Pool],
        pages: EventPages,
        query_timeout: float,
    ) -> None:
        self._pool_of = pool_of
        self._query_timeout = query_timeout
        self._pages = pages
        self._processed = guarded(pages.processed)
        self._event = guarded(self.event)

    def raw_routes(self) -> dict[str, App]:
        """The routes by path."""
        return {
            PROCESSED: self._processed,
            "/events/{eventId}": self._known,
            "/users/{id}/events": guarded(self.of_user),
            "/users//{what}": guarded(self.of_nobody),
        }

    async def of_user(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Events of the user in the path."""
        user_id = user_id_of(scope["path"].split("/")[2])
        path = PROCESSED if user_id in DOT_SEGMENTS else f"/users/{quote(user_id, safe='')}/events"
        await self._pages.of_user(scope, receive, send, path, user_id)

    async def of_nobody(self, _scope: Scope, _receive: Receive, _send: Send) -> None:
        """A user id that is empty is refused in words. Raises RefusedError, 400."""
        user_id_of("")

    async def _known(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Another method is refused where there is something to get, and nowhere else."""
        if scope["method"] in ("GET", "HEAD") or is_event_id(scope["path"].split("/")[2]):
            await self._event(scope, receive, send)
        else:
            await respond(send, 404, envelope.failed(NO_COMMANDS_HERE), JSON)

    async def event(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """One event by its id. An event never changes, so its tag is that of its bytes."""
        event_id = event_id_of(scope["path"].split("/")[2])
        if scope["query_string"]:
            Parameters(scope["query_string"], ()).check()
        async with self._pool_of().acquire(timeout=self._query_timeout) as connection:
            found = await queries.get_event_by_id(connection, tenant_of(scope), event_id)
            gone = None if found else await forgotten(connection, tenant_of(scope), event_id)
        if found is None:
            raise _not_there(gone)
        body = found.encode()
        tag = entity_tag(body)
        if matches(header(scope, b"if-none-match"), tag):
            await send({"type": "http.response.start", "status": 304, "headers": [(b"etag", tag)]})
            await send({"type": "http.response.body", "body": b""})
        else:
            await respond(send, 200, body, JSON, (b"etag", tag))


def _not_there(gone: Forgotten | None) -> RefusedError:
    if gone is None:
        return RefusedError(404, "No such event in the read model (it may not be projected yet).")
    if gone.surely:
        return RefusedError(410, f"The read model keeps no event of that time. {gone.sentence}")
    return RefusedError(404, f"No such event in the read model (it may not be projected yet). {gone.sentence}")


def entity_tag(body: bytes) -> bytes:
    """A strong entity tag (RFC 9110, 8.8.3)."""
    return b'"%b"' % blake2b(body, digest_size=12).hexdigest().encode()


def matches(if_none_match: bytes | None, tag: bytes) -> bool:
    """Whether the client has this representation (RFC 9110, 13.1.2: compared weakly)."""
    if if_none_match is None:
        return False
    known = [candidate.strip().removeprefix(b"W/") for candidate in if_none_match.split(b",")]
    return tag in known or known == [b"*"]


def is_event_id(segment: str) -> bool:
    """Whether a segment of a path names an event."""
    try:
        event_id_of(segment)
    except RefusedError:
        return False
    return True
