"""`POST /events/generate`, straight on ASGI.

A typed Litestar handler decodes lax and costs more than Kafka does (docs/decisions/0013), so this one reads the raw
body into one strict decoder and splices the encoded event into the answer.
"""

import asyncio
import types
from typing import Any

from litestar import asgi
from litestar.handlers import ASGIRouteHandler

from command_side import envelope
from command_side.event_log import EventLog, LogBusyError, PublishError, PublishFailedError, PublishUnknownError
from command_side.handle import handle
from command_side.settings import CommandSettings
from contracts.rules import Problems
from telemetry.asgi import Receive, Scope, Send, respond
from telemetry.edge import REQUEST_ID_KEY
from telemetry.logs import get_logger
from telemetry.metrics import COMMANDS_REJECTED

JSON = b"application/json"
GENERATE = "/events/generate"

NOT_PUBLISHED = "The event could not be published: Kafka did not take it. Nothing was recorded; try again."
OUTCOME_UNKNOWN = "Kafka did not answer in time: whether the event was recorded is unknown."
BUSY = "Too many events wait for Kafka. Nothing was recorded; try again shortly."
RETRY_AFTER = (b"retry-after", b"1")  # seconds


CLOSE = (b"connection", b"close")

PUBLISH_ANSWERS: dict[type[PublishError], tuple[Any, ...]] = {
    PublishFailedError: (500, NOT_PUBLISHED),
    PublishUnknownError: (503, OUTCOME_UNKNOWN, RETRY_AFTER),
    LogBusyError: (503, BUSY, RETRY_AFTER),
}


class ClientGoneError(Exception):
    """The client left before its body was complete; nobody waits for an answer."""


class RefusedError(Exception):
    """A request that is answered before its body is looked at."""

    def __init__(self, status: int, error: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(error)
        self.status, self.error, self.headers = status, error, headers


def generate_route(log: EventLog, settings: CommandSettings) -> ASGIRouteHandler:
    """The route that records one activity."""
    max_bytes, body_timeout = settings.max_body_bytes, settings.body_timeout_ms / 1000

    @asgi(GENERATE, copy_scope=False)
    async def generate(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            check_headers(scope, max_bytes)
            body = await read_body(receive, max_bytes, body_timeout)
            outcome = await handle(body, scope[REQUEST_ID_KEY], log)
        except ClientGoneError:
            return
        except RefusedError as refused:
            COMMANDS_REJECTED.labels(status=refused.status).inc()
            await respond(send, refused.status, envelope.failed(refused.error), JSON, *refused.headers)
        except TimeoutError:
            await respond(send, 408, envelope.failed("The request body took too long to arrive."), JSON, CLOSE)
        except PublishError as error:
            status, text, *headers = PUBLISH_ANSWERS[type(error)]
            await respond(send, status, envelope.failed(text), JSON, *headers)
        except Exception as error:  # noqa: BLE001 - this route passes by the framework and its last resort
            get_logger("command_side").error("unforeseen_error", path=scope["path"], exc_info=error)
            await respond(send, 500, envelope.failed(envelope.INTERNAL_ERROR), JSON)
        else:
            await answer(send, outcome)

    return generate


async def answer(send: Send, outcome: Any) -> None:
    """201 with the event, where to find it and its position in the log; or 400 with every problem."""
    if isinstance(outcome, Problems):
        COMMANDS_REJECTED.labels(status=400).inc()
        await respond(send, 400, envelope.invalid(outcome.sentences), JSON)
        return
    record, position = outcome
    location = (b"location", b"/events/" + record.event_id)
    if position is None:
        await respond(send, 201, envelope.accepted(record.value), JSON, location)
        return
    token = (b"footfall-position", b"%d-%d" % (position.partition, position.offset))
    await respond(send, 201, envelope.accepted(record.value), JSON, location, token)


def check_headers(scope: Scope, max_bytes: int) -> None:
    """Raises RefusedError for what the body cannot be: another method, another media type, encoded, too large."""
    if scope["method"] != "POST":
        raise RefusedError(405, f"Method {scope['method']} is not allowed here; use POST.", (b"allow", b"POST"))
    for name, value in scope["headers"]:
        if name == b"content-type":
            check_media_type(value)
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise RefusedError(415, "Content-Encoding is not supported; send the body as it is.")
        elif name == b"content-length" and int(value) > max_bytes:
            raise RefusedError(413, too_large(max_bytes), CLOSE)


def check_media_type(value: bytes) -> None:
    media_type, _, parameters = value.lower().partition(b";")
    if media_type.strip() != b"application/json":
        raise RefusedError(415, "Content-Type must be application/json.")
    charset = parameters.partition(b"charset=")[2].strip(b' "')
    if charset and charset not in (b"utf-8", b"utf8"):
        raise RefusedError(415, "The charset must be UTF-8.")


async def read_body(receive: Receive, max_bytes: int, timeout: float) -> bytes:
    """The whole body, never holding more than `max_bytes`. Raises TimeoutError after `timeout` seconds.

    A small body has arrived with its head, so `receive` returns without waiting. Looking whether it does spares the
    timer: on Python 3.11 `asyncio.timeout` makes three system calls (docs/performance.md).
    """
    receiving: Any = receive()
    try:
        waits_for = receiving.send(None)
    except StopIteration as arrived:
        message = arrived.value
    else:
        async with asyncio.timeout(timeout):
            message = await resumed(receiving, waits_for)
            return await read_rest(message, receive, max_bytes)
    if not message.get("more_body", False):
        return await read_rest(message, receive, max_bytes)
    async with asyncio.timeout(timeout):
        return await read_rest(message, receive, max_bytes)


@types.coroutine
def resumed(coroutine: Any, waits_for: Any) -> Any:
    """Awaits the rest of a coroutine that was started by hand and waits for the future `waits_for`."""
    try:
        while True:
            try:
                value = yield waits_for
            except BaseException as error:  # noqa: BLE001 - a cancellation above all: the coroutine decides
                waits_for = coroutine.throw(error)
            else:
                waits_for = coroutine.send(value)
    except StopIteration as end:
        return end.value


async def read_rest(message: Any, receive: Receive, max_bytes: int) -> bytes:
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        if len(body) > max_bytes:
            break
        message = await receive()
        body += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    if len(body) > max_bytes:
        raise RefusedError(413, too_large(max_bytes), CLOSE)
    return body


def too_large(max_bytes: int) -> str:
    return f"The body is larger than {max_bytes // 1024} KiB."
