"""Counts and times HTTP answers with plain numbers and without locks, at a fifth of a prometheus_client child's cost.

Only the event loop's thread writes. A scrape turns the numbers into the families `http_requests` and
`http_request_seconds`.
"""

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar


class SideMetrics:
    """Counts of the answers of one side."""

    __slots__ = ("_bounds", "by_bucket", "by_class", "exemplars", "seconds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.by_bucket = [0] * (len(bounds) + 1)
        self.by_class = [0] * 6
        self.seconds = 0.0
        self.exemplars: dict[int, Exemplar] = {}  # by bucket: the latest request of it that was recorded

    def note(self, status: int, elapsed: float) -> None:
        """Counts one answer.

        Args:
            status: HTTP status; 0: no answer could be sent.
            elapsed: Seconds from the request line to the end of the answer.
        """
        self.by_class[status // 100] += 1
        self.by_bucket[bisect_left(self._bounds, elapsed)] += 1
        self.seconds += elapsed

    def exemplify(self, trace_id: str, elapsed: float) -> None:
        """Names the trace of an answer that was counted. `elapsed`: see `note`."""
        bucket = bisect_left(self._bounds, elapsed)
        self.exemplars[bucket] = Exemplar({"trace_id": trace_id}, elapsed, time.time())


class HttpMetrics(Collector):
    """Counts of the answers of every side in this process, as a Prometheus collector."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._sides: dict[str, SideMetrics] = {}

    def of(self, side: str) -> SideMetrics:
        """Returns the counts of one side; makes them at the first call."""
        return self._sides.setdefault(side, SideMetrics(self._bounds))

    def collect(self) -> Iterator[Metric]:
        """Yields the two metric families for a scrape."""
        requests = CounterMetricFamily(
            "http_requests",
            "Answered HTTP requests by side and status class (2xx, 4xx, ..).",
            labels=["side", "status"],
        )
        seconds = HistogramMetricFamily(
            "http_request_seconds", "Time from the request line to the end of the answer.", labels=["side"]
        )
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for side, tally in self._sides.items():
            for number, count in enumerate(tally.by_class):
                requests.add_metric([side, f"{number}xx"], count)
            total = 0
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
            for index, (bound, count) in enumerate(zip(bounds, tally.by_bucket, strict=True)):
                total += count
                exemplar = tally.exemplars.get(index)
                buckets.append((bound, float(total)) if exemplar is None else (bound, float(total), exemplar))
            seconds.add_metric([side], buckets, tally.seconds)
        yield requests
        yield seconds
