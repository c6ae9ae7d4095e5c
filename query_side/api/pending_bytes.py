"""Bytes that wait for their readers are bounded: those of a page, of all pages of a process, of a streaming answer.

Who asks for much and reads nothing would otherwise keep it in the memory of the process, for as long as it likes.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from query_side.api.responses import BrokenStreamError
from query_side.api.shares import held
from web.asgi import Message, Send, respond
from web.policies.decisions import RefusedError
from web.policies.limits.shares import Share
from web.policies.principal import Principal

PAGE_BYTES = 2_097_152  # of the events in one page; beyond, it ends early and its cursor goes on
UNMEASURED = 100  # events that are read at once before it is known how large such events are
PIECE = 65_536  # bytes that are given to a connection at once; smaller answers are not counted
TOO_MUCH_WAITS = "Too many answers wait for their readers; try again shortly."


class WaitingBytes:
    """What large answers hold until their clients have taken it; one that would exceed all bytes is refused."""

    def __init__(self, most: int, percent: int) -> None:
        """`most`: bytes; `percent`: of them, one principal may hold."""
        self._most = most
        self._share = Share("bytes of unread pages", most, percent)
        self.held = 0

    async def respond(
        self,
        send: Send,
        principal: Principal,
        status: int,
        body: bytes,
        content_type: bytes,
        *headers: tuple[bytes, bytes],
    ) -> None:
        """As `web.asgi.respond`, piece by piece where the body is large. Raises RefusedError, 503 or 429."""
        if len(body) <= PIECE:
            await respond(send, status, body, content_type, *headers)
            return
        with held(self._share, principal, len(body)), self._holding(len(body)):
            head = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *headers]
            await send({"type": "http.response.start", "status": status, "headers": head})
            for message in pieces_of(body):
                await send(message)

    @contextmanager
    def _holding(self, size: int) -> Iterator[None]:
        if self.held and self.held + size > self._most:
            raise RefusedError(503, TOO_MUCH_WAITS, (b"retry-after", b"1"))
        self.held += size
        try:
            yield
        finally:
            self.held -= size


def pieces_of(body: bytes, *, more: bool = False) -> Iterator[Message]:
    """The messages of a body; each is sent once the client has taken most of those before. `more`: will follow."""
    for start in range(0, len(body), PIECE):
        end = start + PIECE
        yield {"type": "http.response.body", "body": body[start:end], "more_body": more or end < len(body)}


def size_of(event: str) -> int:
    """Bytes in UTF-8."""
    return len(event) if event.isascii() else len(event.encode())


def further(limit: int, read: int, size: int) -> int:
    """How many more events of a page to read at once, after `read` of them that have `size` bytes together."""
    return max(0, min(limit - read, (PAGE_BYTES - size) * read // max(size, 1)))


class Pace:
    """Ends an answer whose client takes fewer than `least` bytes in `within` seconds in which it is waited for."""

    def __init__(self, send: Send, least: int, within: float) -> None:
        self._send, self._least, self._within = send, least, within
        self._given, self._waited = 0, 0.0

    async def give(self, body: bytes) -> None:
        """Sends more of the answer. Raises BrokenStreamError."""
        for message in pieces_of(body, more=True):
            while not await self._taken(message):
                if self._given < self._least:
                    raise BrokenStreamError
                self._given, self._waited = 0, 0.0
            self._given += len(message["body"])

    async def _taken(self, message: Any) -> bool:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(max(0.0, self._within - self._waited)):
                await self._send(message)
        except TimeoutError:  # while it waited: nothing of the message is sent
            return False
        self._waited += loop.time() - began
        return True
