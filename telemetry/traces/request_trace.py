"""The trace of one HTTP request: its span, and the span of the records that it sends."""

import time

from telemetry.traces.context import TRACEPARENT, Context, Value, context_in
from telemetry.traces.tracing import TRACING

UNTRACED = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})  # who asks there asks all day
METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"})


class RequestTrace:
    """One request that is part of a trace, recorded or not. Whoever makes it must call `end`."""

    __slots__ = ("_began", "_links", "_outcome", "_parent", "_scheme", "_sending", "_sent_at", "context")

    def __init__(self, context: Context, parent: Context | None, scheme: str) -> None:
        self.context = context
        self._parent, self._scheme = parent, scheme
        self._began = time.time_ns()
        self._sending: Context | None = None
        self._sent_at = 0
        self._outcome: dict[str, Value] | None = None  # of the records; None: not known
        self._links: list[Context] = []

    @property
    def trace_id(self) -> str:
        """As logs and tools write it."""
        return f"{self.context.trace_id:032x}"

    def record_header(self) -> bytes:
        """The `traceparent` of the records that this request sends: that of their span, which is one for all."""
        if not self.context.sampled:
            return Context(self.context.trace_id, (self._parent or self.context).span_id, sampled=False).header()
        if self._sending is None:
            self._sending, self._sent_at = self.context.child(), time.time_ns()
        return self._sending.header()

    def sent(self, attributes: dict[str, Value]) -> None:
        """What became of the records."""
        self._outcome = attributes

    def repeats(self, header: bytes, original: Context) -> None:
        """The request stands for a record of another request: `original`, of the record's `header`."""
        if self._sending is None or self._sending.header() != header:
            self._sending = None  # ours went nowhere
            self._links.append(original)

    def end(self, method: str, route: str, status: int) -> None:
        """Records its spans. `route`: the path's template, because a path may name a user. `status` 0: no answer."""
        recorder = TRACING.recorder
        if recorder is None or not self.context.sampled:
            return
        known = method if method in METHODS else "_OTHER"
        attributes: dict[str, Value] = {
            "http.request.method": known,
            "url.scheme": self._scheme,
            "url.path": route,
            "http.route": route,
        }
        if status:
            attributes["http.response.status_code"] = status
        error = "disconnected" if not status else str(status) if status >= 500 else None
        times, name = (self._began, time.time_ns()), f"{known if known != '_OTHER' else 'HTTP'} {route}"
        recorder.record(name, "server", self.context, self._parent, times, attributes, links=self._links, error=error)
        self._end_sending(times[1])

    def _end_sending(self, now: int) -> None:
        recorder, sending = TRACING.recorder, self._sending
        if recorder is None or sending is None:
            return
        attributes = self._outcome if self._outcome is not None else {"footfall.outcome": "abandoned"}
        topic = attributes.get("messaging.destination.name", "")
        told = {"messaging.system": "kafka", "messaging.operation.name": "send", "messaging.operation.type": "send"}
        error = attributes.get("error.type")
        recorder.record(
            f"send {topic}".rstrip(),
            "producer",
            sending,
            self.context,
            (self._sent_at, now),
            {**told, **attributes},
            error=None if error is None else str(error),
        )


def begin(headers: list[tuple[bytes, bytes]], path: str, scheme: str) -> RequestTrace | None:
    """The trace of a request; None: it is part of none. Only where `TRACING.recorder` is there."""
    parent = None
    for name, _ in headers:
        if name == TRACEPARENT:
            parent = context_in(headers)
            break
    context = TRACING.sampler.begin(parent)
    return None if context is None or path in UNTRACED else RequestTrace(context, parent, scheme)
