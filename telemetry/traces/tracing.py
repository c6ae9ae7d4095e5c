"""Traces of this process: off, until `trace_process` finds an endpoint in its settings.

One object for the process, as with metrics and logs. `TRACING.recorder is None` is all that a hot path pays when off.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from telemetry.traces.sampling import Sampler

if TYPE_CHECKING:
    from telemetry.traces.recorder import Recorder
    from telemetry.traces.settings import TraceSettings


class Tracing:
    """What records, if anything does, and what decides which requests are recorded."""

    recorder: Recorder | None = None
    sampler = Sampler(0, parent_based=True, from_clients=0)


TRACING = Tracing()


@contextmanager
def trace_process(settings: TraceSettings, process: str) -> Iterator[None]:
    """Records traces while the body runs, if an endpoint is set. `process`: such as command-side."""
    if not settings.otel_exporter_otlp_endpoint:
        yield
        return
    from telemetry.traces.recorder import otlp_recorder  # noqa: PLC0415 - the SDK takes 0.3 s to import

    service = settings.otel_service_name or f"footfall-{process}"
    with recording(
        otlp_recorder(settings.otel_exporter_otlp_endpoint, service),
        Sampler(
            settings.ratio(),
            parent_based=settings.parent_based(),
            from_clients=settings.traces_from_clients_per_second,
        ),
    ):
        yield


@contextmanager
def recording(recorder: Recorder, sampler: Sampler) -> Iterator[None]:
    """Records traces while the body runs, and exports the last of them."""
    TRACING.recorder, TRACING.sampler = recorder, sampler
    try:
        yield
    finally:
        TRACING.recorder, TRACING.sampler = None, Tracing.sampler
        recorder.close()
