"""Records spans, each when it has ended, with OpenTelemetry's SDK: a bounded queue, and a thread that exports it.

They are made of the SDK's `ReadableSpan`: its tracer begins each span with a context, a lock and an id of its own,
and took four times as long, in the event loop (docs/decisions/0046).

A full queue drops the oldest spans, and an endpoint that is away costs spans, never a request or an event.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from telemetry.logs import get_logger
from telemetry.metrics import TRACE_SPANS
from telemetry.traces.context import Context, Value

KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "producer": SpanKind.PRODUCER}
KINDS |= {"consumer": SpanKind.CONSUMER, "internal": SpanKind.INTERNAL}

QUEUE = 16_384  # spans that wait for the exporter at most, about 1 KiB each
EXPORT_BATCH = 512  # spans in one request
EXPORT_DELAY = 1_000  # ms
LOG_INTERVAL = 60.0  # seconds between log lines while the endpoint is away
LAST_EXPORT = 2.0  # seconds that the end of a process waits for its last spans
MAX_LINKS = 128  # of one span: OpenTelemetry's own bound

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_OK, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)


class HashedOnce(Resource):
    """A resource whose hash is remembered: the exporter groups spans by it, and writes it as JSON for each of them."""

    def __init__(self, attributes: Mapping[str, Value]) -> None:
        """See `Resource.create`."""
        found = Resource.create(attributes)
        super().__init__(found.attributes, found.schema_url)
        self._hash = super().__hash__()

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)

    def __hash__(self) -> int:
        return self._hash


class Recorder:
    """Records spans of one process."""

    def __init__(self, exporter: SpanExporter, service: str) -> None:
        """`service`: names the process, unless OTEL_RESOURCE_ATTRIBUTES does."""
        self._processor = BatchSpanProcessor(
            exporter, max_queue_size=QUEUE, max_export_batch_size=EXPORT_BATCH, schedule_delay_millis=EXPORT_DELAY
        )
        self._resource = HashedOnce({"service.name": service, "service.namespace": "footfall"})
        self._scope = InstrumentationScope("footfall")

    def record(  # noqa: PLR0913 - each argument is one property of a span
        self,
        name: str,
        kind: str,
        context: Context,
        parent: Context | None,
        times: tuple[int, int],
        attributes: Mapping[str, Value],
        *,
        links: Sequence[Context] = (),
        error: str | None = None,
    ) -> None:
        """Records one span that has ended.

        Args:
            name: Its name, of which there are few.
            kind: One of `KINDS`.
            context: Its ids.
            parent: In the same trace; None: it is the first span of its trace.
            times: Begin and end, ns since 1970.
            attributes: No user, no payload.
            links: Spans of other traces; the first `MAX_LINKS` are kept.
            error: Why it failed, in a word; None: it did not.
        """
        if error is not None:
            attributes = {**attributes, "error.type": error}
        span = ReadableSpan(
            name,
            _named(context),
            None if parent is None else _named(parent),
            self._resource,
            attributes,
            (),
            [Link(_named(link)) for link in links[:MAX_LINKS]],
            KINDS[kind],
            status=_OK if error is None else _ERROR,
            start_time=times[0],
            end_time=max(times),
            instrumentation_scope=self._scope,
        )
        self._processor.on_end(span)

    def close(self) -> None:
        """Exports what is left, for at most `LAST_EXPORT`."""
        closing = threading.Thread(target=self._processor.shutdown, name="last-spans", daemon=True)
        closing.start()
        closing.join(LAST_EXPORT)


class CountedExporter(SpanExporter):
    """Counts what leaves the process; says once in `LOG_INTERVAL` that the endpoint does not take it."""

    def __init__(self, exporter: SpanExporter, endpoint: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._exporter, self._endpoint, self._clock = exporter, endpoint, clock
        self._told_at = -LOG_INTERVAL
        self._lost = 0  # spans since the last line

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """As OTLPSpanExporter's, which tries for 10 seconds (OTEL_EXPORTER_OTLP_TIMEOUT)."""
        result = self._exporter.export(spans)
        exported = result is SpanExportResult.SUCCESS
        TRACE_SPANS.labels(outcome="exported" if exported else "failed").inc(len(spans))
        if not exported:
            self._lost += len(spans)
            self._tell()
        return result

    def shutdown(self) -> None:
        """As OTLPSpanExporter's."""
        self._exporter.shutdown()

    def _tell(self) -> None:
        now = self._clock()
        if now - self._told_at < LOG_INTERVAL:
            return
        self._told_at, lost, self._lost = now, self._lost, 0
        get_logger("traces").warning("spans_not_exported", endpoint=self._endpoint, lost=lost)


def otlp_recorder(endpoint: str, service: str) -> Recorder:
    """A recorder that exports to an OTLP endpoint, a URL without `/v1/traces`."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it logs each try; `CountedExporter` says it
    shown = endpoint.rpartition("@")[2]  # a URL may hold a password
    exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")
    return Recorder(CountedExporter(exporter, shown), service)


def _named(context: Context) -> SpanContext:
    return SpanContext(context.trace_id, context.span_id, is_remote=True, trace_flags=_SAMPLED)
