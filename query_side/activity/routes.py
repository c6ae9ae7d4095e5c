"""`/users/{id}/..`, `/products/top` and `/activity/hourly`: what the projections know, as JSON.

A user without events has no activity (404); their events and sessions are empty lists.
"""

from collections.abc import Callable
from datetime import timedelta
from urllib.parse import quote, unquote_to_bytes, urlencode

import asyncpg
import msgspec
from litestar import asgi
from litestar.handlers import ASGIRouteHandler

from query_side.activity import queries as projections
from query_side.activity.hour_range import span_of_hours
from query_side.api.compression import ENCODED, LEAST_BYTES, VARY, Gzip, takes_gzip
from query_side.api.negotiation import JSON as JSON_TYPE
from query_side.api.negotiation import chosen
from query_side.api.parameters import NAME_RULE, Parameters, is_name
from query_side.api.pending_bytes import WaitingBytes
from query_side.api.responses import JSON, NOT_FOUND, RefusedError, guarded, header
from query_side.events.filters import EVENT_TYPES
from query_side.events.pages import unpacked
from query_side.events.responses import FOREIGN_CURSOR, PROCESSED, EventPages
from query_side.log_positions.cursors import Cursors
from read_model.wire_time import wire_time
from web.asgi import Receive, Scope, Send

USERS = "/users"
TOP_PRODUCTS = "/products/top"
ACTIVITY_HOURLY = "/activity/hourly"

DOT_SEGMENTS = (".", "..")  # clients resolve them before they ask, however they are written (RFC 3986, 5.2.4)
MAX_SESSIONS, DEFAULT_SESSIONS = 200, 50  # of one answer
MAX_PRODUCTS, DEFAULT_PRODUCTS = 1_000, 10
USUAL_RANKING, MAX_RANKING = timedelta(days=7), timedelta(days=366)
USUAL_ACTIVITY, MAX_ACTIVITY = timedelta(days=1), timedelta(days=31)

_encode = msgspec.json.Encoder().encode


class UserRoutes:
    """The routes of the projections. `pool_of()` and `cursors_of()` give what the lifespan has opened."""

    def __init__(
        self,
        pool_of: Callable[[], asyncpg.Pool],
        cursors_of: Callable[[], Cursors],
        pages: EventPages,
        query_timeout: float,
        waiting: WaitingBytes,
    ) -> None:
        self._waiting = waiting
        self._pool_of = pool_of
        self._cursors_of = cursors_of
        self._pages = pages
        self._query_timeout = query_timeout

    def handlers(self) -> list[ASGIRouteHandler]:
        """The routes for an application."""
        return [
            # A mount, because Litestar 2.25 answers 500 for an ASGI route with a path parameter.
            asgi(USERS, is_mount=True, copy_scope=False)(guarded(self.user)),
            asgi(TOP_PRODUCTS, copy_scope=False)(guarded(self.top_products)),
            asgi(ACTIVITY_HOURLY, copy_scope=False)(guarded(self.activity_hourly)),
        ]

    async def user(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One of the three things that there are of a user."""
        user_id, what = user_path(scope["raw_path"])
        match what:
            case "activity":
                await self._activity(scope, send, user_id)
            case "sessions":
                await self._sessions(scope, send, user_id)
            case "events" if user_id is not None:
                path = PROCESSED if user_id in DOT_SEGMENTS else f"{USERS}/{quote(user_id, safe='')}/events"
                await self._pages.of_user(scope, receive, send, path, user_id)
            case _:
                raise RefusedError(404, NOT_FOUND)

    async def _activity(self, scope: Scope, send: Send, in_path: str | None) -> None:
        parameters = Parameters(scope["query_string"], () if in_path else ("userId",))
        user_id = in_path or asked_for(parameters)
        parameters.check()
        async with self._connection() as connection:
            found = await projections.user_activity(connection, user_id)
        if found is None:
            raise RefusedError(404, "No events of this user are in the read model (they may not be projected yet).")
        await answer(self._waiting, scope, send, found)

    async def _sessions(self, scope: Scope, send: Send, in_path: str | None) -> None:
        parameters = Parameters(
            scope["query_string"], ("limit", "cursor") if in_path else ("userId", "limit", "cursor")
        )
        user_id = in_path or asked_for(parameters)
        limit = parameters.number("limit", MAX_SESSIONS) or DEFAULT_SESSIONS
        cursor = parameters.raw("cursor")
        parameters.check()
        bound_to = b"sessions:" + user_id.encode()
        payload = None if cursor is None else self._cursors_of().open(cursor, bound_to)
        if cursor is not None and payload is None:
            raise RefusedError(400, errors=[FOREIGN_CURSOR])
        after = None if payload is None else unpacked(payload)
        async with self._connection() as connection:
            found, last = await projections.user_sessions(connection, user_id, after, limit)
        links = []
        if last is not None:
            query = {"limit": limit, "cursor": self._cursors_of().seal(last.packed(), bound_to)}
            path = f"{USERS}/{quote(user_id, safe='')}/sessions"
            if in_path is None or in_path in DOT_SEGMENTS:
                path, query = f"{USERS}/sessions", {"userId": user_id, **query}
            links = [(b"link", f'<{path}?{urlencode(query)}>; rel="next"'.encode())]
        await answer(self._waiting, scope, send, found, *links)

    async def top_products(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """The most viewed products of a span of hours."""
        parameters = Parameters(scope["query_string"], ("from", "to", "limit"))
        since, until = span_of_hours(parameters, USUAL_RANKING, MAX_RANKING)
        limit = parameters.number("limit", MAX_PRODUCTS) or DEFAULT_PRODUCTS
        parameters.check()
        async with self._connection() as connection:
            found = await projections.top_products(connection, since, until, limit)
        found_in = {"from": wire_time(since), "to": wire_time(until)}
        await answer(self._waiting, scope, send, {**found_in, "products": found})

    async def activity_hourly(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Events of each type in each hour of a span."""
        parameters = Parameters(scope["query_string"], ("from", "to"), ("eventType",))
        since, until = span_of_hours(parameters, USUAL_ACTIVITY, MAX_ACTIVITY)
        event_types = parameters.choices("eventType", EVENT_TYPES) or EVENT_TYPES
        parameters.check()
        async with self._connection() as connection:
            found = await projections.activity_hourly(connection, since, until, event_types)
        found_in = {"from": wire_time(since), "to": wire_time(until)}
        await answer(self._waiting, scope, send, {**found_in, "hours": found})

    def _connection(self) -> "asyncpg.pool.PoolAcquireContext":
        return self._pool_of().acquire(timeout=self._query_timeout)


def asked_for(parameters: Parameters) -> str:
    """The parameter `userId`, for ids that no path can carry: clients resolve `/users/../activity` before they ask."""
    user_id = parameters.text("userId")
    if user_id is None:
        parameters.problems.append("Parameter `userId` is required here.")
    return user_id or ""


def user_path(raw_path: bytes) -> tuple[str | None, str]:
    """User id and what is asked of them, from the path as it came: a `%2F` belongs to the id.

    None: the path, such as `/users/activity`, leaves the id to the query.
    Raises RefusedError: 404 for a path of another form, 400 for what can be no user id.
    """
    parts = raw_path.partition(b"?")[0].rstrip(b"/").split(b"/")
    if len(parts) == 3:
        return None, parts[2].decode("latin-1")
    if len(parts) != 4:
        raise RefusedError(404, NOT_FOUND)
    try:
        user_id = unquote_to_bytes(parts[2]).decode()
    except UnicodeDecodeError:
        user_id = ""
    if not is_name(user_id):
        raise RefusedError(400, f"The user id in the path must be {NAME_RULE}, percent-encoded UTF-8.")
    return user_id, parts[3].decode("latin-1")


async def answer(waiting: WaitingBytes, scope: Scope, send: Send, found: object, *headers: tuple[bytes, bytes]) -> None:
    """Whatever was found as JSON. Raises RefusedError, 406, when the client takes no JSON."""
    chosen(header(scope, b"accept"), (JSON_TYPE,))
    body = _encode(found)
    if len(body) >= LEAST_BYTES and takes_gzip(header(scope, b"accept-encoding")):
        body, headers = Gzip().end(body), (*headers, ENCODED)
    await waiting.respond(send, 200, body, JSON, VARY, *headers)
