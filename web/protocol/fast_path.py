"""Whole requests without a task: what is here from its first byte to its last is offered to who answers by a call.

uvicorn's way, a scope, a cycle and a task for each request, costs more than recording an event does
(docs/performance.md). Only a POST of HTTP/1.1 that ends with the bytes just received, on a connection that keeps alive
and owes no answer, is offered. Everything else, and what nobody takes, goes uvicorn's way.
"""

import time
from collections.abc import Callable
from typing import Any

from telemetry.logs import get_logger
from web.asgi import Headers, Takes
from web.middleware import Edge, request_id_of
from web.protocol.bounded_http import BoundedHttp
from web.protocol.whole_responses import whole_answer

MAX_AHEAD = 65_536  # bytes that are taken in before the answer they wait for; then the client is not read


class DirectHttp(BoundedHttp):
    """One connection."""

    def __init__(self, *args: Any, edge: Edge, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._edge = edge
        self._chunk = b""  # that is being parsed
        self._began_here = False  # whether the request that is being parsed began in this chunk
        self._takes: Takes | None = None  # of the request that is kept from uvicorn
        self._head: Headers = []
        self._body = b""
        self._whole = False
        self._exchange: WholeRequest | None = None  # that was taken, and is not answered yet
        self._ahead = b""  # received since then
        self._closes = False  # once it is answered

    def data_received(self, data: bytes) -> None:
        """Feeds the parser, or waits for the answer that comes first."""
        if self._exchange is not None:
            self._ahead += data
            if len(self._ahead) > MAX_AHEAD:
                self.flow.pause_reading()
            return
        self._chunk, self._began_here = data, False
        super().data_received(data)
        if self._takes is not None:
            self._offer()

    def on_message_begin(self) -> None:
        """Its first byte."""
        self._began_here = True
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        """Keeps a request that may be taken from uvicorn until it is whole."""
        if not self.check_head():
            return
        takes = self._edge.exchanges.get(self.url)
        if takes is not None and self._is_usual():
            self._takes, self._body, self._whole = takes, b"", False
            self._head, self.headers = self.headers, []  # trailers are no headers
        else:
            self._begin_uvicorns_way(self.headers)

    def on_body(self, body: bytes) -> None:
        """Keeps the body, too, if it is of one piece."""
        if self._takes is not None and self._body:
            self._give_up()
        if self._takes is None:
            super().on_body(body)
        else:
            self._cuts.unsettled = 0
            self._body = body

    def on_message_complete(self) -> None:
        """The request is whole; it is taken only if nothing comes after it."""
        if self._takes is not None and not self._ends_the_chunk():
            self._give_up()
        if self._takes is None:
            super().on_message_complete()
        else:
            self._whole = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for the answer any more."""
        self._exchange, self._ahead = None, b""
        super().connection_lost(exc)

    def idle_since(self) -> float | None:
        """See `BoundedHttp`."""
        return None if self._exchange is not None else super().idle_since()

    def shutdown(self) -> None:
        """Closes, once what was taken is answered."""
        if self._exchange is None:
            super().shutdown()
        else:
            self._closes = True

    def close_if_overdue(self, now: float) -> None:
        """`now`: loop time."""
        if self._idle_since is not None and now - self._idle_since > self.timeout_keep_alive:
            self.transport.close()
        else:
            super().close_if_overdue(now)

    def finish(self, answer: bytes) -> None:
        """Sends the answer of what was taken, and goes on with what came since."""
        if self._exchange is None:  # the client has left
            return
        self._exchange = None
        self.when_gone(None)
        self._connection.write(answer)
        self.server_state.total_requests += 1
        if self._closes:
            self.transport.close()
            return
        self._idle_since = self.loop.time()
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            self.flow.resume_reading()
            self.data_received(ahead)

    def _is_usual(self) -> bool:
        parser = self.parser
        assert parser is not None  # it is calling
        return (
            self._began_here
            and not self._is_again
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not self.expect_100_continue
            and not self.flow.write_paused
            and self.unanswered() is None
        )

    def _ends_the_chunk(self) -> bool:
        """Whether the body is the last that was received: behind the first empty line, as the request began here.

        False, too, for a body in HTTP's chunks.
        """
        return self._chunk.find(b"\r\n\r\n") + 4 + len(self._body) == len(self._chunk)

    def _offer(self) -> None:
        takes, self._takes = self._takes, None
        if takes is None or self._deaf:  # the parser stopped, and the refusal is sent
            return
        if self._whole:
            self._exchange = WholeRequest(self, self._edge, self._head, self._body)
            try:
                if takes(self._exchange):
                    return
            except Exception as error:  # noqa: BLE001 - nothing was begun: the application meets it again, and answers
                get_logger("web").error("exchange_failed", exc_info=error)
            self._exchange = None
        self._go_uvicorns_way()

    def _give_up(self) -> None:
        self._takes = None
        self._go_uvicorns_way()

    def _go_uvicorns_way(self) -> None:
        body, self._body = self._body, b""
        self._begin_uvicorns_way(self._head)
        if body:
            super().on_body(body)
        if self._whole:
            super().on_message_complete()

    def _begin_uvicorns_way(self, headers: Headers) -> None:
        url, expects = self.url, self.expect_100_continue
        super().on_message_begin()  # makes the scope, which what is taken has no need of
        self.url, self.expect_100_continue = url, expects
        self.headers = self.scope["headers"] = headers
        self.begin_request()


class WholeRequest:
    """See `web.asgi.Exchange`."""

    __slots__ = ("_connection", "_edge", "_started", "body", "headers", "request_id")

    def __init__(self, connection: DirectHttp, edge: Edge, headers: Headers, body: bytes) -> None:
        self._started = time.perf_counter()
        self._connection = connection
        self._edge = edge
        self.headers = headers
        self.body = body
        self.request_id = request_id_of(headers)

    def when_gone(self, leave: Callable[[], None]) -> None:
        """See `Exchange`."""
        self._connection.when_gone(leave)

    def answer(self, status: int, body: bytes, content_type: bytes, lines: bytes = b"") -> None:
        """See `Exchange`."""
        path = self._connection.url.decode()
        self._connection.finish(whole_answer(status, body, content_type, lines, self.request_id))
        self._edge.answered("POST", path, status, self._started, self.request_id)
