"""Whole requests without a task: what is here from its first byte to its last is offered to a fast handler.

uvicorn's way, a scope, a cycle and a task for each request, costs more than recording an event does
(docs/performance.md). Only a POST of HTTP/1.1 that ends with the bytes just received, on a connection that keeps alive
and owes no answer, is offered, once the policies have admitted it. Everything else takes the ASGI way; so does what a
policy needs I/O for, with the decisions that were made already (`web.policies.passage`).
"""

import time
from collections.abc import Callable
from typing import Any

from telemetry.current_request import OFFERED
from telemetry.logs import get_logger
from telemetry.traces.request_trace import RequestTrace
from telemetry.traces.tracing import TRACING
from web.asgi import Headers
from web.fast_handler import FastHandler, encode_headers
from web.middleware import JSON, Middleware, begun, request_id_of
from web.policies.decisions import ADMIT, Decision, Refuse
from web.policies.passage import PASSAGE_KEY, Passage, refusal_body
from web.policies.request_head import RequestHead
from web.protocol.bounded_http import BoundedHttp
from web.protocol.connection_phase import ANSWERING, ANSWERING_LAST, ASGI, BUFFERING, DISCARDING, IDLE, WHOLE
from web.protocol.whole_responses import whole_answer
from web.transport.peer import PeerCertificate

MAX_AHEAD = 65_536  # bytes that are taken in before the answer they wait for; then the client is not read
CLOSE = (b"connection", b"close")


class FastHttp(BoundedHttp):
    """One connection."""

    def __init__(self, *args: Any, middleware: Middleware, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._middleware = middleware
        self._way = ASGI
        self._chunk = b""  # that is being parsed
        self._began_here = False  # whether the request that is being parsed began in this chunk
        self._handler: FastHandler | None = None  # of the request that is kept from uvicorn
        self._head: Headers = []
        self._body = b""
        self._passage: Passage | None = None  # of the request that is being answered
        self._ahead = b""  # received since then

    def data_received(self, data: bytes) -> None:
        """Feeds the parser, or keeps what arrives before the answer that comes first."""
        way = self._way
        if way is ANSWERING or way is ANSWERING_LAST:
            self._ahead += data
            if len(self._ahead) > MAX_AHEAD:
                self.flow.pause_reading()
            return
        self._chunk, self._began_here = data, False
        super().data_received(data)
        if self._way is not ASGI:
            self._offer()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._began_here = True
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        """Keeps a request that may be offered from uvicorn until it is whole."""
        if not self.check_head():
            return
        handler = self._middleware.fast_handlers.get(self.url)
        if handler is not None and self._is_usual():
            self._way, self._handler, self._body = BUFFERING, handler, b""
            self._head, self.headers = self.headers, []  # trailers are no headers
        else:
            self._begin_on_asgi(self.headers)

    def on_body(self, body: bytes) -> None:
        """Keeps the body, too, if it is of one piece."""
        if self._way is BUFFERING and self._body:
            self._continue_on_asgi()
        if self._way is BUFFERING:
            self._cuts.unsettled = 0
            self._body = body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole; it is offered only if nothing comes after it."""
        if self._way is BUFFERING and not (self._cuts.is_whole or self._ends_the_chunk()):
            self._continue_on_asgi()
        if self._way is BUFFERING:
            self._way = WHOLE
        else:
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for the answer any more."""
        self._way, self._ahead = ASGI, b""
        super().connection_lost(exc)
        passage, self._passage = self._passage, None
        if passage is not None:
            passage.end()
            trace = passage.head.facts.get(RequestTrace)
            if trace is not None:  # the path of a fast handler has no parameters
                trace.end("POST", passage.head.path, 0)

    def idle_since(self) -> float | None:
        """See `BoundedHttp`."""
        return super().idle_since() if self._way is ASGI else None

    def shutdown(self) -> None:
        """Closes, once a fast handler has answered."""
        if self._way is ASGI:
            super().shutdown()
        else:
            self._way = ANSWERING_LAST

    def close_if_overdue(self, now: float) -> None:
        """`now`: loop time."""
        if self._phase is IDLE and now - self._since > self.timeout_keep_alive:
            self.transport.close()
        else:
            super().close_if_overdue(now)

    def finish(self, answer: bytes) -> None:
        """Sends the answer of a fast handler, and goes on with what came since. Does nothing if the client has left."""
        way, passage = self._way, self._passage
        if passage is None:
            return
        self._way, self._passage = ASGI, None
        passage.end()
        self.leave = None
        self._connection.write(answer)
        self.server_state.total_requests += 1
        if way is ANSWERING_LAST:
            self.transport.close()
            return
        self._phase, self._since = IDLE, self.loop.time()
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            self.flow.resume_reading()
            self.data_received(ahead)
            self.end_if_answered()

    def eof_received(self) -> bool:  # type: ignore[override]
        """See `PipelinedHttp`."""
        if self._way is ANSWERING and not self._ahead:
            self._way = ANSWERING_LAST
        return super().eof_received()

    def owes_an_answer(self) -> bool:
        """See `PipelinedHttp`."""
        return self._way is not ASGI or super().owes_an_answer()

    def _is_usual(self) -> bool:
        parser, last = self.parser, self.last_request()
        assert parser is not None  # it is calling
        return (
            self._began_here
            and not self._is_again
            and parser.get_method() == b"POST"
            and self._version == "1.1"
            and parser.should_keep_alive()
            and not self.expect_100_continue
            and not self.flow.write_paused
            and (last is None or last.response_complete)
        )

    def _ends_the_chunk(self) -> bool:
        """Whether the body is the last that was received: behind the first empty line, as the request began here.

        False, too, for a body in HTTP's chunks.
        """
        return self._chunk.find(b"\r\n\r\n") + 4 + len(self._body) == len(self._chunk)

    def _offer(self) -> None:
        if self._phase is DISCARDING:  # the parser stopped, and the refusal is sent
            self._way = ASGI
            return
        if self._way is BUFFERING:  # the rest of the body is still to come
            self._continue_on_asgi()
            return
        target, middleware, handler = self.url, self._middleware, self._handler
        assert handler is not None  # see `on_headers_complete`
        head = RequestHead("POST", target.decode(), target, b"", self._head, self.client, self.scheme or "http")
        if self._peer is not None:
            head.facts[PeerCertificate] = self._peer
        passage = Passage(head, middleware.policies)
        request = BufferedRequest(self, middleware, head, self._body)
        OFFERED.request = request
        try:
            decision = passage.proceed()
            self._way, self._passage = ANSWERING, passage
            if decision is ADMIT:
                handler(request)
                taken = True
            else:
                taken = self._refuses(request, decision)
        except Exception as error:  # noqa: BLE001 - nothing was begun: the application meets it again, and answers
            get_logger("web").error("fast_handler_failed", exc_info=error)
            taken = self._passage is None  # it was answered
        finally:
            OFFERED.request = None
        if not taken:
            self._passage = self.leave = None
            self._continue_on_asgi(passage)

    def _refuses(self, request: "BufferedRequest", decision: Decision) -> bool:
        """Returns False to fall back to ASGI: a policy needs I/O."""
        if not isinstance(decision, Refuse):
            return False
        if CLOSE in decision.headers:
            self._way = ANSWERING_LAST
        request.answer(decision.status, refusal_body(decision), JSON, encode_headers(decision.headers))
        return True

    def _continue_on_asgi(self, passage: Passage | None = None) -> None:
        """Gives uvicorn what was kept from it. `passage`: of a request that is whole and was offered."""
        self._way = ASGI
        body, self._body = self._body, b""
        self._begin_on_asgi(self._head, passage)
        if body:
            super().on_body(body)
        if passage is not None:
            super().on_message_complete()

    def _begin_on_asgi(self, headers: Headers, passage: Passage | None = None) -> None:
        url, expects = self.url, self.expect_100_continue
        super().on_message_begin()  # makes the scope, which a fast handler has no need of
        self.url, self.expect_100_continue = url, expects
        self.headers = self.scope["headers"] = headers
        if passage is not None:
            self.scope[PASSAGE_KEY] = passage  # type: ignore[literal-required]
        self.begin_request()


class BufferedRequest:
    """See `web.fast_handler.BufferedRequest`."""

    __slots__ = ("_connection", "_middleware", "_started", "body", "head", "request_id", "trace")

    def __init__(self, connection: FastHttp, middleware: Middleware, head: RequestHead, body: bytes) -> None:
        self._started = time.perf_counter()
        self._connection = connection
        self._middleware = middleware
        self.head = head
        self.body = body
        self.trace: RequestTrace | None = None
        if TRACING.recorder is None:
            self.request_id = request_id_of(head.headers)
        else:
            self.request_id, self.trace = begun(head)

    def on_disconnect(self, leave: Callable[[], None]) -> None:
        """See `web.fast_handler.BufferedRequest`."""
        self._connection.leave = leave  # as its `on_disconnect`, with one call less

    def answer(self, status: int, body: bytes, content_type: bytes, lines: bytes = b"") -> None:
        """See `web.fast_handler.BufferedRequest`."""
        asked_for = self.head.answer_headers
        if asked_for:
            lines += encode_headers(asked_for)
        self._connection.finish(whole_answer(status, body, content_type, lines, self.request_id))
        if self.trace is None:
            self._middleware.answered("POST", self.head.path, status, self._started, self.request_id)
            return
        before, OFFERED.request = OFFERED.request, self
        self._middleware.answered("POST", self.head.path, status, self._started, self.request_id)
        OFFERED.request = before
        self._middleware.end_trace(self.trace, "POST", self.head.path, status, self._started)
