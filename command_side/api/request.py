"""What comes in: the head of a request, checked before its body is looked at, and the body within its bounds."""

import asyncio
import re
import types
from collections.abc import Collection, Coroutine
from typing import Any, NamedTuple, TypeVar

from command_side.idempotency import is_valid_key
from web.asgi import WHEN_GONE_KEY, Headers, Receive, Scope

T = TypeVar("T")

JSON = b"application/json"
CLOSE = (b"connection", b"close")
# RFC 9110, 5.6.6. A semicolon with nothing behind it is sound.
OPTIONAL_SPACE = b" \t"
TOKEN = rb"[!#$%&'*+.^_`|~0-9a-z-]+"
QUOTED = rb'"(?:[^"\\]|\\.)*"'
PARAMETER = rb"(%b)=(%b|%b)" % (TOKEN, TOKEN, QUOTED)
each_parameter = re.compile(PARAMETER).findall
PLACE = rb"[ \t]*(?:%b[ \t]*)?" % PARAMETER
is_parameters = re.compile(rb"%b(?:;%b)*" % (PLACE, PLACE)).fullmatch

is_string = re.compile(rb'"((?:[ !#-\[\]-~]|\\["\\])*)"').fullmatch  # RFC 9651, 3.3.3
unescaped = re.compile(rb"\\(.)").sub
BAD_KEY = "The header `Idempotency-Key` must be 1 to 255 visible ASCII characters, bare or in quotes, once."


class ClientGoneError(Exception):
    """The client left; nobody waits for an answer."""


class RefusedError(Exception):
    """A request that is answered before its body is looked at."""

    def __init__(self, status: int, error: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(error)
        self.status, self.error, self.headers = status, error, headers


class Head(NamedTuple):
    """What the headers say of the body."""

    media_type: bytes = JSON
    idempotency_key: bytes | None = None
    length: int | None = None  # bytes; None: the body comes in chunks, or there is none


PLAIN = (JSON,)


def read_head(scope: Scope, max_bytes: int, media_types: Collection[bytes] = PLAIN) -> Head:
    """Raises RefusedError for what the body cannot be: another method, another media type, encoded, too large."""
    if scope["method"] != "POST":
        raise RefusedError(405, f"Method {scope['method']} is not allowed here; use POST.", (b"allow", b"POST"))
    return read_headers(scope["headers"], max_bytes, media_types)


def read_headers(headers: Headers, max_bytes: int, media_types: Collection[bytes] = PLAIN) -> Head:
    """As `read_head`, of a POST."""
    media_type, key, length = JSON, None, None
    for name, value in headers:
        if name == b"content-type":
            media_type = checked_media_type(value, media_types)
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise RefusedError(415, "Content-Encoding is not supported; send the body as it is.")
        elif name == b"content-length":
            length = int(value)
            if length > max_bytes:
                raise RefusedError(413, too_large(max_bytes), CLOSE)
        elif name == b"idempotency-key":
            if key is not None:
                raise RefusedError(400, BAD_KEY)
            key = checked_key(value)
    return Head(media_type, key, length)


def checked_key(value: bytes) -> bytes:
    """The key, which may stand in quotes: a string of RFC 9651, as the IETF's draft wants. Raises RefusedError."""
    if value.startswith(b'"'):
        quoted = is_string(value)
        value = b"" if quoted is None else unescaped(rb"\1", quoted[1])
    if not is_valid_key(value):
        raise RefusedError(400, BAD_KEY)
    return value


def checked_media_type(value: bytes, allowed: Collection[bytes]) -> bytes:
    """The media type without its parameters. Raises RefusedError when it is not allowed, or not in UTF-8."""
    if value in allowed:  # the usual spelling
        return value
    media_type, _, parameters = value.lower().partition(b";")
    media_type = media_type.strip(OPTIONAL_SPACE)
    if media_type not in allowed:
        names = " or ".join(name.decode() for name in allowed)
        raise RefusedError(415, f"Content-Type must be {names}.")
    if not is_parameters(parameters):
        raise RefusedError(415, 'Content-Type is malformed: a parameter is name=value, or name="value".')
    charsets = [text.strip(b'"') for name, text in each_parameter(parameters) if name == b"charset"]
    if any(charset not in (b"utf-8", b"utf8") for charset in charsets):
        raise RefusedError(415, "The charset must be UTF-8.")
    return media_type


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


async def while_wanted(scope: Scope, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns. Raises ClientGoneError, and cancels it, when the client leaves."""
    when_gone = scope.get(WHEN_GONE_KEY)
    if when_gone is None:
        return await work
    task, gone = asyncio.ensure_future(work), False

    def leave() -> None:
        nonlocal gone
        gone = True
        task.cancel()

    when_gone(leave)
    try:
        return await task
    except asyncio.CancelledError:
        if gone:
            raise ClientGoneError from None
        raise
    finally:
        when_gone(None)


def too_large(max_bytes: int) -> str:
    return f"The body is larger than {max_bytes // 1024} KiB."
