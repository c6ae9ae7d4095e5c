"""How the query side answers: JSON, refusals in the envelope, and 503 while the database is away."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from read_model.connecting.away import ANOTHER_SCHEMA, AWAY
from telemetry.logs import get_logger
from web.asgi import App, Headers, Receive, Scope, Send, respond
from web.policies.decisions import Refuse
from web.policies.passage import refusal_body

JSON = b"application/json"
INTERNAL_ERROR = "Internal server error"
NOT_FOUND = "Not found"
NOT_MIGRATED = "The database's schema is not the one that this version needs; /health/ready says which it is."
UNAVAILABLE = "The read model is not available; try again shortly."


class RefusedError(Exception):
    """A request that is answered with a refusal: one sentence, or one for each problem of a 400."""

    def __init__(
        self, status: int, error: str | None = None, *headers: tuple[bytes, bytes], errors: Sequence[str] | None = None
    ) -> None:
        super().__init__(error or errors)
        self.status, self.headers = status, headers
        self.error, self.problems = error or "", tuple(errors or ())
        self.body = refusal(error, errors)


class BrokenStreamError(Exception):
    """An answer that had begun could not be finished; the connection is cut, so that it does not look whole."""


class ClientGoneError(Exception):
    """The client left in the middle of an answer."""


def refusal(error: str | None, errors: Sequence[str] | None = None) -> bytes:
    """Returns the envelope around one sentence, or several."""
    return msgspec.json.encode({"success": False, "event": None, "errors": errors, "error": error})


def guarded(handler: App) -> App:
    """`handler` for GET and HEAD, with every refusal and every failure as an answer in the envelope."""

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            error = refusal(f"Method {scope['method']} is not allowed here; use GET.")
            await respond(send, 405, error, JSON, (b"allow", b"GET, HEAD"))
            return
        try:
            await handler(scope, receive, send)
        except BrokenStreamError:
            raise
        except Exception as error:  # noqa: BLE001 - some routes pass by the framework and its last resort
            answer = refusal_for(error, scope["path"])
            await respond(send, answer.status, refusal_body(answer), JSON, *answer.headers)

    return route


def refusal_for(error: Exception, path: str) -> Refuse:
    """What to answer after `error`: 503 while the database is away or has another schema, 500 for the unforeseen.

    A value, never the error itself: a frame that keeps an error is kept by it, and with it the page that was rendered.
    """
    if isinstance(error, RefusedError):
        return Refuse(error.status, error.error, error.headers, error.problems)
    log = get_logger("query-side")
    if isinstance(error, ANOTHER_SCHEMA):
        log.error("another_schema", path=path, error=type(error).__name__)
        return Refuse(503, NOT_MIGRATED, ((b"retry-after", b"30"),))
    if isinstance(error, AWAY):
        log.warning("read_model_unavailable", path=path, error=type(error).__name__)
        return Refuse(503, UNAVAILABLE, ((b"retry-after", b"2"),))
    log.error("unforeseen_error", path=path, exc_info=error)
    return Refuse(500, INTERNAL_ERROR)


def header(scope: Scope, name: bytes) -> bytes | None:
    """The header of this lower-case name; several lines of it as one list (RFC 9110, 5.3)."""
    return joined_header(scope["headers"], name)


def joined_header(headers: Headers, name: bytes) -> bytes | None:
    """As `header`, of a request's headers."""
    found = [value for key, value in headers if key == name]
    return None if not found else b", ".join(found)


async def until_disconnect(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def watch_for_departure(receive: Receive) -> "asyncio.Task[Any]":
    """A task that is done once the client has left; cancel it at the end of the answer."""
    return asyncio.create_task(until_disconnect(receive))
