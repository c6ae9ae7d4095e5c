"""Decides when the projector retries a stopped partition: with an increasing back-off, for its cause may be gone."""

import random
import time
from collections.abc import Callable, Iterable

import msgspec

FIRST_PAUSE = 5.0  # seconds
LONGEST_PAUSE = 60.0  # seconds
JITTER = 0.2  # of a pause, more or less, so that partitions that stopped together are not retried together


class _Retry(msgspec.Struct):
    pause: float
    due_at: float
    retrying: bool = False


class StopRetries:
    """The stopped partitions of one owner whose cause may pass by itself."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stopped: dict[int, _Retry] = {}

    def schedule(self, partition: int) -> None:
        """Schedules a retry of a partition that stopped; the pause doubles with each stop, up to `LONGEST_PAUSE`."""
        before = self._stopped.get(partition)
        pause = FIRST_PAUSE if before is None else min(2 * before.pause, LONGEST_PAUSE)
        wait = pause * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
        self._stopped[partition] = _Retry(pause, self._clock() + wait)

    def start_due(self) -> list[int]:
        """Starts the retries whose pause is over, and returns their partitions."""
        now = self._clock()
        due = [p for p, retry in self._stopped.items() if not retry.retrying and retry.due_at <= now]
        for partition in due:
            self._stopped[partition].retrying = True
        return sorted(due)

    def retrying(self) -> set[int]:
        """Returns the partitions under retry: the projector may claim them although they stopped."""
        return {partition for partition, retry in self._stopped.items() if retry.retrying}

    def cancel(self, partitions: Iterable[int]) -> None:
        """Forgets partitions that run again, or that we no longer own."""
        for partition in partitions:
            self._stopped.pop(partition, None)
