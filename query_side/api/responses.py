"""How the query side answers: JSON, refusals in the envelope, and 503 while the database is away."""

import asyncio
from typing import Any

import asyncpg

from read_model.connecting.unavailable import ANOTHER_SCHEMA, DATABASE_UNAVAILABLE
from telemetry.logs import get_logger
from web import envelope
from web.access import template_of
from web.asgi import App, Headers, Receive, Scope, Send, respond
from web.policies.decisions import Refuse, RefusedError
from web.policies.passage import refusal_body

JSON = b"application/json"
NOT_FOUND = "Not found"
NOT_MIGRATED = "The database's schema is not the one that this version needs; /health/ready says which it is."
TOO_MUCH_SPACE = "The query needs more temporary disk space than one may use here; ask for less at a time."
UNAVAILABLE = "The read model is not available; try again shortly."


class BrokenStreamError(Exception):
    """An answer that had begun could not be finished; the connection is cut, so that it does not look whole."""


class ClientGoneError(Exception):
    """The client left in the middle of an answer."""


def guarded(handler: App) -> App:
    """`handler` for GET and HEAD, with every refusal and every failure as an answer in the envelope."""

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            error = f"Method {scope['method']} is not allowed here; use GET."
            await respond(send, 405, envelope.failed(error), JSON, (b"allow", b"GET, HEAD"))
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

    Never the error itself: an error refers to the frames that it passed, and a frame that keeps it makes a cycle, which
    holds the rendered page until the collector runs.
    """
    if isinstance(error, RefusedError):
        return error.answer
    log = get_logger("query-side").bind(path=template_of(path))
    if isinstance(error, ANOTHER_SCHEMA):
        log.error("another_schema", error=type(error).__name__)
        return Refuse(503, NOT_MIGRATED, ((b"retry-after", b"30"),))
    if isinstance(error, asyncpg.ConfigurationLimitExceededError):
        log.warning("query_needs_too_much_space", error=type(error).__name__)
        return Refuse(503, TOO_MUCH_SPACE)  # the same again would meet the same limit
    if isinstance(error, DATABASE_UNAVAILABLE):
        log.warning("read_model_unavailable", error=type(error).__name__)
        return Refuse(503, UNAVAILABLE, ((b"retry-after", b"2"),))
    log.error("unforeseen_error", exc_info=error)
    return Refuse(500, envelope.INTERNAL_ERROR)


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
