"""`GET /events/processed` and `GET /events/{eventId}`, straight on ASGI: the answers are JSON already."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from litestar import Request, Response, asgi
from litestar.handlers import ASGIRouteHandler

from query_side import queries
from query_side.settings import QuerySettings
from telemetry.asgi import Receive, Scope, Send, respond
from telemetry.logs import get_logger

JSON = b"application/json"
PROCESSED = "/events/processed"
EVENTS = "/events"


def refusal(error: str) -> bytes:
    """The seed's envelope around one sentence."""
    return msgspec.json.encode({"success": False, "event": None, "errors": None, "error": error})


AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
)


def unavailable(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """503 while the database is away; nothing of the cause in the answer."""
    get_logger("query-side").warning("read_model_unavailable", path=request.scope["path"], error=type(error).__name__)
    body = refusal("The read model is not available; try again shortly.")
    return Response(body, status_code=503, media_type="application/json", headers={"retry-after": "2"})


class EventRoutes:
    """The routes that read events. `pool_of()` gives the pool once the lifespan has opened it."""

    def __init__(self, pool_of: Callable[[], asyncpg.Pool], settings: QuerySettings) -> None:
        self._pool_of = pool_of
        self._exports = asyncio.Semaphore(settings.max_exports)
        self._query_timeout = settings.query_timeout_ms / 1000
        self._export_timeout = settings.export_timeout_ms / 1000

    def handlers(self) -> list[ASGIRouteHandler]:
        """The routes for an application."""
        away: dict[int | type[Exception], Any] = dict.fromkeys(AWAY, unavailable)
        return [
            asgi(PROCESSED, copy_scope=False, exception_handlers=away)(self.processed),
            # A mount, because Litestar 2.25 answers 500 for an ASGI route with a path parameter.
            asgi(EVENTS, is_mount=True, copy_scope=False, exception_handlers=away)(self.event),
        ]

    async def processed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """All events as one JSON array, streamed from one snapshot."""
        if not await is_get(scope, send):
            return
        if self._exports.locked():
            busy = refusal("Too many answers of all events are being streamed; try again shortly.")
            await respond(send, 503, busy, JSON, (b"retry-after", b"5"))
            return
        if scope["method"] == "HEAD":
            await respond(send, 200, b"", JSON)
            return
        async with self._exports, self._pool_of().acquire(timeout=self._query_timeout) as connection:
            await self._stream_all(connection, receive, send)

    async def event(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One event by its id."""
        if not await is_get(scope, send):
            return
        rest = scope["path"].strip("/")
        if "/" in rest or not rest:
            await respond(send, 404, refusal("Not found"), JSON)
            return
        event_id = parse_event_id(rest)
        if event_id is None:
            await respond(send, 400, refusal("The event id in the path must be a UUID."), JSON)
            return
        async with self._pool_of().acquire(timeout=self._query_timeout) as connection:
            found = await queries.get_event_by_id(connection, event_id)
        if found is None:
            await respond(send, 404, refusal("No such event in the read model (it may not be projected yet)."), JSON)
        else:
            await respond(send, 200, found.encode(), JSON)

    async def _stream_all(self, connection: queries.Connection, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", JSON)]})
        gone = asyncio.create_task(until_disconnect(receive))

        async def sink(chunk: bytes) -> None:
            if gone.done():
                raise ClientGoneError
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

        try:
            await queries.get_all_processed_events(connection, sink, self._export_timeout)
            await send({"type": "http.response.body", "body": b""})
        except ClientGoneError:
            get_logger("query-side").info("export_abandoned_by_client")
        finally:
            gone.cancel()


class ClientGoneError(Exception):
    """The client left in the middle of a stream."""


async def until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def is_get(scope: Scope, send: Send) -> bool:
    """Whether the method is one this path answers; if not, the refusal has been sent."""
    if scope["method"] in ("GET", "HEAD"):
        return True
    error = refusal(f"Method {scope['method']} is not allowed here; use GET.")
    await respond(send, 405, error, JSON, (b"allow", b"GET, HEAD"))
    return False


def parse_event_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
