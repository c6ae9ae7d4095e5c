"""HTTP/1.1 within bounds: what uvicorn leaves open to clients that are slow, endless or hostile.

uvicorn with httptools takes a head of any size, waits for it for ever, answers what is no HTTP in plain text, and goes
on reading a body that nobody wants any more. Here each of these ends: 400, 408, 414 or 431 in the envelope, and the
connection is closed.
"""

import asyncio
import sys
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any, cast

from httptools import HttpRequestParser
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from web.asgi import HOLD_KEY, ON_DISCONNECT_KEY
from web.protocol.connection_phase import AWAITING_HEAD, BUSY, DISCARDING, IDLE, LINGERING, SPOILED, Phase
from web.protocol.connection_places import ConnectionPlaces, Place
from web.protocol.head_bounds import BODY_HEADERS, VERSIONS, framing_of, head_without_upgrade, is_plainly_framed
from web.protocol.http_1_0 import until_closed
from web.protocol.joined_writes import JoinedWrites, bound_unsent
from web.protocol.refusals import CROWDED, MALFORMED, TOO_SLOW, AnswerTo, Refusal, refused
from web.protocol.request_framing import PipelinedHttp, RequestCuts
from web.transport.peer import PEER_KEY, peer_certificate

MAX_HEADERS = 100  # fields of one request, trailers included
MAX_HEAD_BYTES = 32_768  # of one head as it is sent; also of anything else that is no body
MAX_TARGET_BYTES = 8_192
HEAD_TIMEOUT = 10.0  # seconds from the first byte, or from connecting, to the end of the head
LINGER = 2.0  # seconds to take in the rest of what is answered already: a reset could cost the client the answer
UNREAD_TIMEOUT = 60.0  # seconds in which a client must take in something of an answer that it was sent
LOOK_INTERVAL = 1.0  # seconds between looks at the deadlines
LONG_TARGET = (414, f"The request target is longer than {MAX_TARGET_BYTES // 1024} KiB.")
LARGE_HEAD = (431, f"The request's head is larger than {MAX_HEAD_BYTES // 1024} KiB or has over {MAX_HEADERS} headers.")


class OutOfBoundsError(Exception):
    """Stops the parser; what to answer is noted already."""


class BoundedHttp(PipelinedHttp):
    """One connection. `close_overdue` must be called now and then for its deadlines to hold."""

    def __init__(self, *args: Any, places: ConnectionPlaces, answer_to: AnswerTo = refused, **kwargs: Any) -> None:
        """`places`: of this process; a connection without one is answered 503 and closed."""
        super().__init__(*args, **kwargs)
        self._answer_to = answer_to
        self._places = places
        self._unread_since: float | None = None  # loop time; None unless the client lets too much lie
        self._refusal: Refusal = MALFORMED
        self._cuts = RequestCuts()
        self._phase, self._since = AWAITING_HEAD, 0.0  # loop time when the phase began, if it has a deadline
        self._version = "1.1"  # of the request whose head was parsed last
        self._parsed = 0  # bytes of what is being parsed; fewer when the parser stopped at an upgrade
        self._again = b""  # a head that asked for an upgrade, as it is parsed once more
        self._is_again = False  # whether that is being parsed, or its body
        self.leave: Callable[[], object] | None = None  # called if the client disconnects before it is answered

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A head is due from now on."""
        super().connection_made(transport)
        self._peer = peer_certificate(transport) if self.scheme == "https" else None
        self._connection, self._is_closing = JoinedWrites(transport), transport.is_closing
        bound_unsent(transport.get_extra_info("socket"))
        self._enter(AWAITING_HEAD)
        # What uvicorn closes, here and in its request cycle, is closed gently.
        self.transport = SimpleNamespace(  # type: ignore[assignment]
            write=self._connection.write,
            is_closing=lambda: self._phase is DISCARDING or transport.is_closing(),
            close=self._close,
            get_extra_info=transport.get_extra_info,
            can_write_eof=transport.can_write_eof,
        )
        if not self._places.take(self.client, cast("Collection[Place]", self.connections)):
            self._refuse(CROWDED)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left, or was made to."""
        super().connection_lost(exc)
        self._places.give_back(self.client)
        leave, self.leave = self.leave, None
        if leave is not None:
            leave()

    def pause_writing(self) -> None:
        """The client lets lie what it was sent: its answer waits, but not for ever."""
        self._unread_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It took most of it."""
        self._unread_since = None
        super().resume_writing()

    def idle_since(self) -> float | None:
        """Loop time since when it could be closed and nobody would lose anything; None while something is under way."""
        if self._phase not in (IDLE, AWAITING_HEAD) or self._cuts.unsettled or self.unanswered() is not None:
            return None
        return self._since

    def has_asked(self) -> bool:
        """Whether it was ever used."""
        return self._phase is not AWAITING_HEAD

    def give_way(self) -> None:
        """Closes, for another one to have the place."""
        self.transport.close()

    def on_disconnect(self, leave: Callable[[], object] | None) -> None:
        """Has `leave` called, once, if the connection ends before another request's `leave` takes its place."""
        self.leave = leave

    def data_received(self, data: bytes) -> None:
        """Feeds the parser, and refuses what grows without becoming a request."""
        start, cuts = 0, self._cuts
        self._phase = BUSY if self._phase is IDLE else self._phase
        while start < len(data) and not self._hears_no_more():
            if (self.pipeline or self._unparsed) and self.leaves_unparsed(data, start):
                break
            end = cuts.take(data, start, MAX_HEAD_BYTES)
            self._parsed = end - start
            super().data_received(data[start:end])
            start += self._parsed
            if cuts.only_head:
                cuts.settle(data, self._parsed)
            if self._again:
                self._parse_again()
            if cuts.unsettled >= MAX_HEAD_BYTES and not self._hears_no_more():
                self._refuse(LARGE_HEAD)
        if cuts.unsettled and not cuts.in_chunks and self._phase is BUSY and self.unanswered() is None:
            self._enter(AWAITING_HEAD)

    def on_header(self, name: bytes, value: bytes) -> None:
        """As uvicorn's, up to `MAX_HEADERS`."""
        if len(self.headers) == MAX_HEADERS:
            self._stop(LARGE_HEAD)
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def check_head(self) -> bool:
        """The head is here: stops the parser unless it is within its bounds.

        Returns False for a head that asks for an upgrade: it comes again.
        """
        if len(self.url) > MAX_TARGET_BYTES:
            self._stop(LONG_TARGET)
        parser = self.parser  # there is one: it is calling
        hosts, codings, length = framing_of(self.headers)
        version = self._version = parser.get_http_version()
        if version != "1.1":
            self.expect_100_continue = False  # 1.0 knows no 100
        elif hosts != 1:
            self._stop(MALFORMED)
        if version not in VERSIONS or (codings and not is_plainly_framed(codings)):
            self._stop(MALFORMED)
        if parser.should_upgrade():
            if parser.get_method() != b"CONNECT":
                self._again = head_without_upgrade(parser.get_method(), self.url, version, self.headers)
                return False
            if not BODY_HEADERS.isdisjoint(name for name, _ in self.headers):
                self._stop(MALFORMED)  # the parser would drop the body
        self._cuts.head_ended(length, in_chunks=bool(codings))
        self._phase = BUSY
        return True

    def on_headers_complete(self) -> None:
        """Unless its head is too large, the request begins."""
        if self.check_head():
            self.begin_request()

    def begin_request(self) -> None:
        """Hands the request to the application."""
        ours = {HOLD_KEY: self._connection.hold, ON_DISCONNECT_KEY: self.on_disconnect, PEER_KEY: self._peer}
        self.scope.update(ours)  # type: ignore[typeddict-item]
        super().on_headers_complete()
        if self.expect_100_continue:
            self.scope[HOLD_KEY] = self._hold_of(self.cycle)  # type: ignore[literal-required]
        self.headers = []  # trailers are no headers

    def on_body(self, body: bytes) -> None:
        """A piece of a body, which its reader bounds."""
        self._cuts.unsettled = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole request is here."""
        if self._again:
            return
        self._is_again = False
        self._cuts.request_ended()
        if self._phase is LINGERING:
            self._enter(IDLE)
        if self.cycle.response_complete:
            self.cycle.more_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Answered: the rest of a body may still come, but not for long."""
        if self._phase is BUSY and self.unanswered() is None:  # of a pipeline, the last one is answered
            self._enter(LINGERING if self.cycle.more_body else IDLE)
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls when the parser stopped."""
        self._refuse(self._refusal)

    def _unsupported_upgrade_warning(self) -> None:
        """A client may ask for what there is not (Java's asks for HTTP/2 each time); it is answered in HTTP/1.1.

        uvicorn calls this as it handles the parser's HttpParserUpgrade, which tells where the head ends.
        """
        upgrade = sys.exc_info()[1]
        if upgrade is not None:
            self._parsed = upgrade.args[0]

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Begins to answer one request."""
        if cycle.scope["http_version"] == "1.0":
            app = until_closed(app, cycle, self._connection.reset)
        super()._start_asgi_task(cycle, app)

    def close_if_overdue(self, now: float) -> None:
        """`now`: loop time."""
        waited = now - self._since
        if self._phase in (LINGERING, DISCARDING) and waited > LINGER:
            self._connection.close()
        elif self._unread_since is not None and now - self._unread_since > UNREAD_TIMEOUT:
            self._connection.abort()
        elif self._unread_since is None and self.has_left(now):
            self._connection.close()
        elif self._phase is AWAITING_HEAD and waited > HEAD_TIMEOUT:
            if self._cuts.unsettled:
                self._refuse(TOO_SLOW)
            else:  # it never asked for anything
                self.transport.close()

    def _hears_no_more(self) -> bool:
        """Whether the rest of what arrived is of no interest: the connection is closing, or will."""
        return self._phase is DISCARDING or self._phase is SPOILED or self._is_closing()

    def _hold_of(self, cycle: RequestResponseCycle) -> Callable[[bytes], None]:
        """Who is answered without having been told to continue may send the body, or not: no next request is safe."""

        def hold(lines: bytes) -> None:
            if cycle.waiting_for_100_continue and cycle.more_body:
                cycle.keep_alive = False
            self._connection.hold(lines)

        return hold

    def _parse_again(self) -> None:
        """Another parser begins: one that was told of an upgrade and of the end takes in nothing more."""
        again, self._again, self._is_again = self._again, b"", True
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        super().data_received(again)

    def _stop(self, refusal: Refusal) -> None:
        self._refusal = refusal
        raise OutOfBoundsError

    def _refuse(self, refusal: Refusal) -> None:
        """Answers and closes, unless an earlier request is still owed its answer: then closes after that."""
        answer = self._answer_to(refusal, self.client, self.scheme or "http")
        owed = self.unanswered()
        if owed is not None and not owed.more_body:
            owed.keep_alive = False
            self._phase = SPOILED
            self.flow.pause_reading()
            return
        if not (self.pipeline or self._phase is LINGERING or (owed is not None and owed.response_started)):
            self.transport.write(answer)
        if owed is not None:  # its reader waits for the rest
            owed.disconnected = True
            owed.message_event.set()
        self._close(unread=True)

    def _close(self, *, unread: bool = False) -> None:
        """Closes at once, unless the client may be sending still: then it may do so for `LINGER`, unheard."""
        last = self.last_request()
        unread = unread or self._phase is SPOILED or (last is not None and last.more_body)
        if self._phase is DISCARDING or not unread:
            self._connection.close()
        elif not self._connection.is_closing():
            self._enter(DISCARDING)
            self.pipeline.clear()  # what waits has no answer any more
            self.flow.resume_reading()
            self._connection.write_eof()

    def _enter(self, phase: Phase) -> None:
        self._phase, self._since = phase, self.loop.time()
