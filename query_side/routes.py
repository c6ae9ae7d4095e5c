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
EVENT = "/events/{event_id:str}"


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


def event_routes(pool_of: Callable[[], asyncpg.Pool], settings: QuerySettings) -> list[ASGIRouteHandler]:
    """The routes that read events. `pool_of()` gives the pool once the lifespan has opened it."""
    exports = asyncio.Semaphore(settings.max_exports)
    log = get_logger("query-side")

    @asgi(PROCESSED, copy_scope=False, exception_handlers=dict.fromkeys(AWAY, unavailable))
    async def processed(scope: Scope, receive: Receive, send: Send) -> None:
        if not await is_get(scope, send):
            return
        if exports.locked():
            busy = refusal("Too many answers of all events are being streamed; try again shortly.")
            await respond(send, 503, busy, JSON, (b"retry-after", b"5"))
            return
        async with exports, pool_of().acquire() as connection:
            await stream_all(connection, receive, send, settings.export_timeout_ms / 1000)

    @asgi(EVENT, copy_scope=False, exception_handlers=dict.fromkeys(AWAY, unavailable))
    async def event(scope: Scope, receive: Receive, send: Send) -> None:
        if not await is_get(scope, send):
            return
        event_id = parse_event_id(scope["path_params"]["event_id"])
        if event_id is None:
            await respond(send, 400, refusal("The event id in the path must be a UUID."), JSON)
            return
        found = await queries.get_event_by_id(pool_of(), event_id)
        if found is None:
            await respond(send, 404, refusal("No such event in the read model (it may not be projected yet)."), JSON)
        else:
            await respond(send, 200, found.encode(), JSON)

    async def stream_all(connection: Any, receive: Receive, send: Send, timeout: float) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", JSON)]})
        gone = asyncio.create_task(until_disconnect(receive))

        async def sink(chunk: bytes) -> None:
            if gone.done():
                raise ClientGoneError
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

        try:
            await queries.get_all_processed_events(connection, sink, timeout)
            await send({"type": "http.response.body", "body": b""})
        except ClientGoneError:
            log.info("export_abandoned_by_client")
        finally:
            gone.cancel()

    return [processed, event]


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
