"""`POST /events/generate`, straight on ASGI.

A typed Litestar handler decodes lax and costs more than Kafka does (docs/decisions/0013), so this one reads the raw
body into one strict decoder and splices the encoded event into the answer.
"""

import asyncio
from typing import Any

from litestar import asgi
from litestar.handlers import ASGIRouteHandler

from command_side import envelope
from command_side.event_log import EventLog, LogBusyError, PublishFailedError, PublishUnknownError
from command_side.handle import handle
from command_side.settings import CommandSettings
from contracts.rules import Problems
from telemetry.asgi import Receive, Scope, Send, respond
from telemetry.edge import REQUEST_ID_KEY
from telemetry.metrics import COMMANDS_REJECTED

JSON = b"application/json"
GENERATE = "/events/generate"

NOT_PUBLISHED = "The event could not be published: Kafka did not take it. Nothing was recorded; try again."
OUTCOME_UNKNOWN = "Kafka did not answer in time: whether the event was recorded is unknown."
BUSY = "Too many events wait for Kafka. Nothing was recorded; try again shortly."
RETRY_AFTER = (b"retry-after", b"1")  # seconds


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
            async with asyncio.timeout(body_timeout):
                body = await read_body(receive, max_bytes)
            outcome = await handle(body, scope[REQUEST_ID_KEY], log)
        except ClientGoneError:
            return
        except RefusedError as refused:
            COMMANDS_REJECTED.labels(status=refused.status).inc()
            await respond(send, refused.status, envelope.failed(refused.error), JSON, *refused.headers)
        except TimeoutError:
            await respond(send, 408, envelope.failed("The request body took too long to arrive."), JSON, CLOSE)
        except PublishFailedError:
            await respond(send, 500, envelope.failed(NOT_PUBLISHED), JSON)
        except PublishUnknownError:
            await respond(send, 503, envelope.failed(OUTCOME_UNKNOWN), JSON, RETRY_AFTER)
        except LogBusyError:
            await respond(send, 503, envelope.failed(BUSY), JSON, RETRY_AFTER)
        else:
            await answer(send, outcome)

    return generate


CLOSE = (b"connection", b"close")


async def answer(send: Send, outcome: Any) -> None:
    """201 with the event, or 400 with every problem."""
    if isinstance(outcome, Problems):
        COMMANDS_REJECTED.labels(status=400).inc()
        await respond(send, 400, envelope.invalid(outcome.sentences), JSON)
        return
    record, _position = outcome
    await respond(send, 201, envelope.accepted(record.value), JSON)


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


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """The whole body, never holding more than `max_bytes`."""
    message = await receive()
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
