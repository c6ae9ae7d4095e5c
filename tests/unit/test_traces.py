"""W3C Trace Context as anybody may send it, and which requests are recorded."""

import logging
from collections.abc import Sequence
from random import Random

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from structlog.testing import capture_logs

from telemetry.metrics import TRACE_SPANS
from telemetry.traces.context import Context, context_in, parse
from telemetry.traces.recorder import CountedExporter, Recorder
from telemetry.traces.request_trace import begin
from telemetry.traces.sampling import Sampler
from telemetry.traces.tracing import recording
from web.middleware import begun, request_id_of, trace_of
from web.policies.request_head import RequestHead

TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
VALID = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("value", "sampled"),
    [(VALID, True), (VALID[:-2] + b"00", False), (VALID[:-2] + b"03", True), (b"cc" + VALID[2:] + b"-what", True)],
)
def test_a_valid_traceparent_is_read(value: bytes, sampled: bool) -> None:
    assert parse(value) == Context(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"ff" + VALID[2:],
        VALID + b"-more",
        VALID.upper(),
        VALID[:-1],
        b"00-" + b"0" * 32 + VALID[35:],
        VALID[:36] + b"0" * 16 + VALID[52:],
        b"cc" + VALID[2:] + b"-" + b"x" * 500,
        b" " + VALID,
        VALID + b"\n",
    ],
)
def test_anything_else_begins_a_new_trace(value: bytes) -> None:
    assert parse(value) is None


def test_two_of_them_are_none() -> None:
    assert context_in([(b"traceparent", VALID)]) == Context(TRACE, SPAN, True)
    assert context_in([(b"traceparent", VALID), (b"traceparent", VALID)]) is None


def test_a_context_is_written_as_it_was_read() -> None:
    context = parse(VALID)
    assert context is not None
    assert context.header() == VALID


def test_a_ratio_samples_its_share_and_ids_agree_with_it() -> None:
    sampler = Sampler(0.01, parent_based=True, from_clients=0, random_bits=Random(1).getrandbits)
    begun = [context for _ in range(100_000) if (context := sampler.begin(None)) is not None]
    assert 900 < len(begun) < 1_100
    assert all(context.trace_id % 2**64 < 2**64 // 100 for context in begun)
    assert len({context.trace_id for context in begun}) == len(begun)


def test_a_parent_decides_if_it_may_and_only_for_so_many_requests_a_second() -> None:
    now = 0.0
    sampler = Sampler(0.0, parent_based=True, from_clients=3, clock=lambda: now)
    asks, declines = Context(TRACE, SPAN, True), Context(TRACE, SPAN, False)

    def sampled(parent: Context) -> bool:
        context = sampler.begin(parent)
        assert context is not None
        assert context.trace_id == TRACE
        return context.sampled

    assert not sampled(declines)
    assert [sampled(asks) for _ in range(5)] == [True] * 3 + [False] * 2
    now = 1.0
    assert sampled(asks)
    everything = Sampler(1.0, parent_based=False, from_clients=0)
    assert everything.begin(declines) != declines
    found = everything.begin(declines)
    assert found is not None
    assert found.sampled


class Away(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.FAILURE


def test_an_endpoint_that_is_away_is_a_line_a_minute() -> None:
    now = 0.0
    exporter = CountedExporter(Away(), "collector:4318", clock=lambda: now)
    before = TRACE_SPANS.labels(outcome="failed")._value.get()
    with capture_logs() as lines:
        for second in range(130):
            now = float(second)
            exporter.export([ReadableSpan("span")])
    assert [line["lost"] for line in lines] == [1, 60, 60]
    assert TRACE_SPANS.labels(outcome="failed")._value.get() - before == 130


class Kept(SpanExporter):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


def test_what_is_not_sampled_carries_that_on() -> None:
    kept = Kept()
    with recording(Recorder(kept, "test"), Sampler(0, parent_based=True, from_clients=0)):
        trace = begin([(b"traceparent", VALID)], "/events/generate", "http")
        assert trace is not None
        assert trace.record_header() == VALID[:-2] + b"00"
        trace.end("POST", "/events/generate", 201)
        assert begin([], "/events/generate", "http") is None
    assert kept.spans == []


def test_a_client_that_leaves_ends_its_trace_and_methods_are_few() -> None:
    kept = Kept()
    with recording(Recorder(kept, "test"), Sampler(1, parent_based=True, from_clients=0)):
        trace = begin([], "/events/generate", "http")
        assert trace is not None
        trace.record_header()
        trace.end("BREW" * 99, "/events/generate", 0)
        assert begin([], "/health", "http") is None
    assert [span.name for span in kept.spans] == ["HTTP /events/generate", "send"]
    assert kept.spans[0].attributes is not None
    assert kept.spans[0].attributes["http.request.method"] == "_OTHER"
    assert kept.spans[0].attributes["error.type"] == "disconnected"
    assert kept.spans[1].attributes is not None
    assert kept.spans[1].attributes["footfall.outcome"] == "abandoned"
    assert logging.getLogger("opentelemetry").level in (logging.CRITICAL, logging.NOTSET)


class KeepsNothing(SpanExporter):
    """An exporter that forgets what it gets."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


@pytest.mark.parametrize("ratio", [0, 1])
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"x-request-id", b"mine")],
        [(b"x-request-id", b"not mine\x00")],
        [(b"x-request-id", b""), (b"x-request-id", b"second")],
        [(b"x-request-id", b"mine"), (b"traceparent", VALID)],
        [(b"traceparent", VALID), (b"x-request-id", b"mine")],
        [(b"traceparent", b"of no trace"), (b"x-request-id", b"mine")],
        [(b"traceparent", VALID), (b"traceparent", VALID)],
    ],
)
def test_one_look_at_the_headers_finds_what_two_looks_find(headers: list[tuple[bytes, bytes]], ratio: float) -> None:
    def head() -> RequestHead:
        return RequestHead("POST", "/events/generate", b"/events/generate", b"", headers, None, "http", facts={})

    with recording(Recorder(KeepsNothing(), "test"), Sampler(ratio, parent_based=True, from_clients=1_000)):
        (request_id, trace), other, expected = begun(head()), head(), request_id_of(headers)
        of_two = trace_of(other)
    assert request_id == expected or len(expected) == len(request_id) == 36  # a new one
    assert (trace is None) == (of_two is None)
    if (
        trace is not None
        and of_two is not None
        and (b"traceparent", VALID) in headers
        and headers.count(headers[0]) == 1
    ):
        assert trace.context.trace_id == of_two.context.trace_id == TRACE
