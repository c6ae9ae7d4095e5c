"""The outermost ASGI layer of each process: request policies, request id, headers for every answer, counters, probes.

It wraps the whole application because the framework's own 404 and 405 bypass middleware.
"""

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from functools import lru_cache

import uuid_utils

from telemetry.current_request import CURRENT_REQUEST, NamedRequest
from telemetry.health import Probe
from telemetry.logs import get_logger
from telemetry.metrics import HTTP_METRICS
from telemetry.traces.context import TRACEPARENT
from telemetry.traces.request_trace import RequestTrace, begin
from telemetry.traces.tracing import TRACING
from web import envelope
from web.access import template_of
from web.asgi import HOLD_KEY, WHOLE_KEY, App, Headers, Message, Receive, Scope, Send, respond
from web.fast_handler import FastHandler, encode_headers
from web.health import health_routes
from web.policies.decisions import Answer, Refuse, RequestPolicy
from web.policies.passage import HEAD_KEY, PASSAGE_KEY, Passage, refusal_body
from web.policies.refusal_pages import RefusalPages, as_pages
from web.policies.request_head import RequestHead, canonical, head_of
from web.protocol.secure_headers import SECURE_LINES, secured

JSON = b"application/json"
REQUEST_ID_KEY = "footfall.request_id"  # in the ASGI scope
LOG_INTERVAL = 1.0  # seconds between log lines of failed requests of one status
METHODS = b"GET, HEAD, OPTIONS, POST"
NO_ROUTES: Mapping[str, App] = {}
NO_FAST_HANDLERS: Mapping[bytes, FastHandler] = {}
_causes = re.compile(r"^[ |]*([\w.]*(?:Error|Refused\w*): .*)$", re.MULTILINE).findall
_acceptable_id = re.compile(rb"[!-~]{1,128}").fullmatch


class Middleware:
    """The layer around `app`, itself an ASGI application."""

    def __init__(
        self,
        app: App,
        side: str,
        probes: Mapping[str, Probe],
        direct: Mapping[str, App] = NO_ROUTES,
        fast_handlers: Mapping[bytes, FastHandler] = NO_FAST_HANDLERS,
        policies: Sequence[RequestPolicy] = (),
        unparsed: Sequence[RequestPolicy] = (),
    ) -> None:
        """The layer of one process.

        Args:
            app: What answers whatever is not named in the other arguments.
            side: Labels metrics and logs.
            probes: The state of each dependency, by name.
            direct: Applications by path that need no router.
            fast_handlers: By request target, what may answer a POST before it becomes a request of `app`; the server
                has to offer it.
            policies: What every request passes, in this order, before anything else of it is looked at.
            unparsed: Those of them that are also asked about what never becomes a request (`web/protocol/refusals.py`).
        """
        self.app = app
        self.direct_routes = {**direct, **health_routes(side, probes), "/": self._root, "*": self._root}
        self._failures = FailedRequests(side)
        self._counts = HTTP_METRICS.of(side)
        self._note = self._counts.note
        self.fast_handlers = fast_handlers
        self.policies = tuple(policies)
        self.unparsed = tuple(unparsed)
        self.pages: RefusalPages | None = None  # what a browser is shown for an envelope that refuses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Raises ValueError for anything but requests and lifespans: no policy would see it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, with_short_failure(send))
            return
        if scope["type"] != "http":
            raise ValueError(f"no such protocol here: {scope['type']}")
        started = time.perf_counter()
        request_id = request_id_of(scope["headers"])
        scope[REQUEST_ID_KEY] = request_id
        passage = scope.get(PASSAGE_KEY) or Passage(head_of(scope), self.policies)
        trace = trace_of(passage.head)
        CURRENT_REQUEST.set(NamedRequest(request_id, trace))  # this task has no other request
        hold = scope.get(HOLD_KEY) if scope["method"] != "HEAD" else None  # the answer to HEAD has no body to wait for
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                asked_for = passage.head.answer_headers
                if hold is not None and message.get(WHOLE_KEY):
                    hold(
                        encode_headers(asked_for) + common_lines(request_id) if asked_for else common_lines(request_id)
                    )
                else:
                    own = ((b"date", http_date(int(time.time()))), (b"x-request-id", request_id.encode()))
                    message["headers"] = secured([*message["headers"], *asked_for, *own])
            await send(message)

        answer = self._shown(passage.head, request_id, send_with_headers)
        try:
            await self._admit_and_route(passage, scope, receive, answer)
        except Exception as error:
            if status:  # half of an answer cannot become another one
                raise
            get_logger("web").error("unforeseen_error", path=template_of(passage.head.path), exc_info=error)
            await respond(answer, 500, envelope.failed(envelope.INTERNAL_ERROR), JSON)
        finally:
            passage.end()
            self.answered(scope["method"], scope["path"], status, started, request_id)
            if trace is not None:
                self.end_trace(trace, scope["method"], passage.head.path, status, started)

    async def _admit_and_route(self, passage: Passage, scope: Scope, receive: Receive, send: Send) -> None:
        decision = await passage.completed()
        if isinstance(decision, Refuse):
            await respond(send, decision.status, refusal_body(decision), JSON, *decision.headers)
            return
        if isinstance(decision, Answer):
            await send({"type": "http.response.start", "status": decision.status, "headers": [*decision.headers]})
            await send({"type": "http.response.body", "body": b""})
            return
        scope[HEAD_KEY] = passage.head
        scope["query_string"] = passage.head.query
        path = scope["path"] = passage.head.path  # what the policies saw is what is routed
        await self.direct_routes.get(path, self.app)(scope, receive, send)

    def _shown(self, head: RequestHead, request_id: str, send: Send) -> Send:
        if self.pages is None or not self.pages.is_for(head):
            return send
        return as_pages(self.pages, head, request_id, send)

    async def _root(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`OPTIONS` of the server as a whole (RFC 9110, 9.3.7): load balancers ask whether there is one."""
        if scope["method"] != "OPTIONS":
            await self.app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 204, "headers": [(b"allow", METHODS)]})
        await send({"type": "http.response.body", "body": b""})

    def answered(self, method: str, path: str, status: int, started: float, request_id: str) -> None:
        """Counts an answer; logs it if it failed. `status` 0: none was possible. `started`: of `time.perf_counter`."""
        elapsed = time.perf_counter() - started
        self._note(status, elapsed)
        if status >= 500 or status == 0:
            self._failures.tell(method, path, status, elapsed, request_id)

    def end_trace(self, trace: RequestTrace, method: str, path: str, status: int, started: float) -> None:
        """Records the trace of a request that was answered, and names it as an example of how long that takes."""
        trace.end(method, template_of(path), status)
        if trace.context.sampled:
            self._counts.exemplify(trace.trace_id, time.perf_counter() - started)


def trace_of(head: RequestHead) -> RequestTrace | None:
    """The trace of a request, which the fast path may have begun; None: it is part of none."""
    if TRACING.recorder is None:
        return None
    trace: RequestTrace | None = head.facts.get(RequestTrace)
    if trace is None:
        trace = begin(head.headers, head.path, head.scheme)
        if trace is not None:
            head.facts[RequestTrace] = trace
    return trace


def begun(head: RequestHead) -> tuple[str, RequestTrace | None]:
    """Request id and trace of a request that begins, with one look at its headers. Only where traces are recorded."""
    request_id: str | None = None
    for name, value in head.headers:
        if name == TRACEPARENT:
            return request_id_of(head.headers), trace_of(head)
        if name == b"x-request-id" and request_id is None:
            request_id = request_id_from(value)
    context = TRACING.sampler.begin(None)  # as nobody named a trace
    trace = None if context is None else RequestTrace(context, None, head.scheme)
    if trace is not None:
        head.facts[RequestTrace] = trace
    return request_id or new_request_id(), trace


def common_lines(request_id: str) -> bytes:
    """The headers of every answer, each with its end of line."""
    return b"date: %b\r\nx-request-id: %b\r\n%b" % (http_date(int(time.time())), request_id.encode(), SECURE_LINES)


@lru_cache(maxsize=1)
def http_date(second: int) -> bytes:
    """The value of `Date` (RFC 9110, 6.6.1); `second`: since 1970. Rendered once a second."""
    return formatdate(second, usegmt=True).encode()


class FailedRequests:
    """Logs failed requests: the first of each status in a second, and how many more there were since the last line.

    Overload must not be made worse by a log line for each request that is refused.
    """

    def __init__(self, side: str) -> None:
        self._log = get_logger(side)
        self._told_at: dict[int, float] = {}  # by status; seconds
        self._untold: Counter[int] = Counter()

    def tell(self, method: str, path: str, status: int, elapsed: float, request_id: str) -> None:
        """Logs or counts one failed request that took `elapsed` seconds. `path`: not yet canonical, if refused."""
        now = time.monotonic()
        if now - self._told_at.get(status, -LOG_INTERVAL) < LOG_INTERVAL:
            self._untold[status] += 1
            return
        self._told_at[status] = now
        self._log.warning(
            "request_failed",
            method=method,
            path=template_of(canonical(path.encode(errors="replace"))),
            status=status,
            seconds=round(elapsed, 4),
            request_id=request_id,
            untold=self._untold.pop(status, 0),
        )


def with_short_failure(send: Send) -> Send:
    """Cuts the traceback of a failed start down to its causes, so that the log has one readable line."""

    async def send_short(message: Message) -> None:
        if message["type"] == "lifespan.startup.failed":
            message["message"] = "; ".join(_causes(message["message"])) or "unknown"
        await send(message)

    return send_short


def request_id_of(headers: Headers) -> str:
    """The client's `X-Request-ID` when it is 1 to 128 visible ASCII characters, a fresh UUIDv7 otherwise."""
    for name, value in headers:
        if name == b"x-request-id":
            return request_id_from(value)
    return new_request_id()


def request_id_from(value: bytes) -> str:
    """As `request_id_of`, of the value of the first such header."""
    return value.decode() if _acceptable_id(value) else new_request_id()


def new_request_id() -> str:
    """A UUIDv7."""
    return str(uuid_utils.uuid7())
