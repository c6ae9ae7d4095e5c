"""Cuts received bytes where a head may end, so that a head is measured by its own bytes however they arrived.

The parser does not say where in a chunk a head begins or ends. What came in one chunk with the request before it would
count for nothing, and a head could be larger than its bound when the network cuts it well.

And a connection reads on only when none of the requests that it has taken in waits for its turn. What it has read is
looked at a few requests at a time. A client that sends nothing more gets the answers to what it has sent.
"""

import asyncio
from collections.abc import Sized
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

END = b"\r\n\r\n"  # of a head, and of a body in HTTP's chunks
MOST_WAITING = 16  # requests of one connection that wait for their turn; one read may hold thousands
HALF_CLOSED = 5.0  # seconds without a byte of an answer, after which a client that closed its sending half has left


class RequestCuts:
    """Where one connection stands between its requests."""

    __slots__ = ("_behind", "_body_left", "_seen", "in_chunks", "is_whole", "only_head", "unsettled")

    def __init__(self) -> None:
        self.unsettled = 0  # bytes of the head that is not complete, or since a piece of a body in chunks
        self.in_chunks = False  # whether such a body is being received
        self._body_left = 0  # bytes of a body whose length was declared
        self._seen = b""  # the last bytes: an end may be cut itself
        self.only_head = 0  # where the only head ends in what goes to the parser uncut; then `settle` is due
        self._behind = 0  # bytes that go with it
        self.is_whole = False  # whether what went to the parser last is one request from its first byte to its last

    def take(self, data: bytes, start: int, most: int) -> int:
        """Counts what goes to the parser next and returns its end; a head in progress gets `most` bytes in all."""
        if self._body_left:
            end = min(len(data), start + self._body_left)
            self._body_left -= end - start
            return end
        if not (start or self.unsettled or self._seen or self.in_chunks or len(data) > most):
            end = data.find(END) + len(END)
            if end >= len(END) and data.find(END, end) < 0:  # no second head ends here, so nothing has to be cut
                self.unsettled, self.only_head, self._behind = end, end, len(data) - end
                return len(data)
        end = self._end(data, start)
        if not self.in_chunks:
            end = min(end, start + most - self.unsettled)
        self.unsettled += end - start
        return end

    def head_ended(self, length: int, *, in_chunks: bool) -> None:
        """A valid head is complete; what follows is its body of `length` bytes, or in chunks."""
        self.in_chunks = in_chunks
        self.is_whole = self.only_head > 0 and self._behind == length and not in_chunks
        if self.is_whole:
            self.unsettled = self.only_head = self._behind = 0
            return
        self.unsettled = self._behind if in_chunks else 0  # a piece of the body makes it 0
        self._body_left = length

    def request_ended(self) -> None:
        """What follows is the next request's."""
        self.unsettled, self.in_chunks = 0, False

    def settle(self, data: bytes, parsed: int) -> None:
        """Counts what was behind the only head. `parsed`: bytes that the parser took in, which stops at an upgrade."""
        behind = parsed - self.only_head
        self.only_head = self._behind = 0
        if not self.in_chunks:
            if self.unsettled:  # it was no head
                self.unsettled += behind
            else:
                left = self._body_left - behind
                self._body_left = max(left, 0)
                behind = self.unsettled = max(-left, 0)
        self._seen = data[max(parsed - behind, parsed - 3) : parsed]

    def _end(self, data: bytes, start: int) -> int:
        if self._seen:
            at = (self._seen + data[start : start + 3]).find(END)
            if at >= 0:
                start += at + len(END) - len(self._seen)
                self._seen = b""
                return start
        at = data.find(END, start)
        if at >= 0:
            self._seen = b""
            return at + len(END)
        self._seen = (self._seen + data[start:])[-3:]
        return len(data)


class PipelineFlow(FlowControl):
    """Reads nothing more while requests wait for their turn.

    uvicorn reads on after every answer, and whenever an application asks for a body, though more requests wait already.
    So a client that only sends gets thousands of them into memory for each one that is answered.
    """

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Unless a request waits."""
        if not self._waiting:
            super().resume_reading()


class PipelinedHttp(HttpToolsProtocol):
    """One connection that reads on only when the last request it took in has its turn.

    One read of the socket may hold thousands; all others would wait until they are parsed.

    A client may close its sending half behind a whole request (RFC 9112, 9.6) and wait for the answer. That looks the
    same as having left, until something is sent: so it is waited for only while it gets something.
    """

    _unparsed = b""  # received behind `MOST_WAITING` requests
    _quiet_since: float | None = None  # loop time of the last byte sent to a client that sends no more; None: it may

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Reading obeys the pipeline from now on."""
        super().connection_made(transport)
        self.flow = PipelineFlow(transport, self.pipeline)

    def connection_lost(self, exc: Exception | None) -> None:
        """What was not parsed is no request any more."""
        self._unparsed = b""
        super().connection_lost(exc)

    def leaves_unparsed(self, data: bytes, start: int) -> bool:
        """Whether so many requests wait that the rest of `data` has to; it is kept."""
        if len(self.pipeline) < MOST_WAITING and not self._unparsed:
            return False
        self._unparsed += data[start:]
        return True

    def on_response_complete(self) -> None:
        """Answered: the next request has its turn, and its body may have to be read."""
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self._unparsed and not self.pipeline:
            unparsed, self._unparsed = self._unparsed, b""
            self.data_received(unparsed)
        self.flow.resume_reading()
        self.end_if_answered()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends nothing more. Returns whether its connection stays open for what it is owed."""
        if self.transport.is_closing() or not (self.transport.can_write_eof() and self.owes_an_answer()):
            return False  # TLS cannot go on
        if self._quiet_since is None:
            transport: Any = self.transport
            self._quiet_since, write = self.loop.time(), transport.write

            def noted(data: bytes) -> None:
                self._quiet_since = self.loop.time()
                write(data)

            transport.write = noted
        return True

    def owes_an_answer(self) -> bool:
        """Whether a whole request waits for its answer, or for its turn."""
        last = self.unanswered()
        return bool(self._unparsed) or (last is not None and not last.more_body)

    def last_request(self) -> RequestResponseCycle | None:
        """The last request whose head is complete; uvicorn's type does not say that there may be none."""
        return self.cycle

    def unanswered(self) -> RequestResponseCycle | None:
        """That request, if its answer is not complete."""
        last = self.last_request()
        return None if last is None or last.response_complete else last

    def end_if_answered(self) -> None:
        """Closes the connection of a client that sends nothing more, once it has everything that it asked for."""
        if self._quiet_since is not None and not self.eof_received():
            self.transport.close()

    def has_left(self, now: float) -> bool:
        """Whether a client that sends nothing more has got nothing for too long. `now`: loop time."""
        return self._quiet_since is not None and now - self._quiet_since > HALF_CLOSED
