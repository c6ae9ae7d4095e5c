"""Sums up the refusals that this process counted, so that the audit log has their number and never a row for each."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter


class RefusalTally:
    """Gives each refusal of a counter to one taker, however many parts of the process ask."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._taken: dict[str, int] = {}

    @contextmanager
    def taking(self) -> Iterator[dict[str, int]]:
        """Yields how many refusals there were since the last time, by reason.

        The body removes those that it has dealt with; the rest is yielded again the next time.
        """
        found = self._new()
        try:
            yield found
        finally:
            for reason, count in found.items():
                self._taken[reason] -= count

    def _new(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for metric in self._counter.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    reason, count = sample.labels["reason"], int(sample.value)
                    found[reason] = count - self._taken.get(reason, 0)
                    self._taken[reason] = count
        return {reason: count for reason, count in found.items() if count}
