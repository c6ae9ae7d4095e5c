"""When a partition that stands still is tried again by itself: with growing pauses, for its cause may be gone."""

import random
import time
from collections.abc import Callable, Iterable

import msgspec

FIRST_PAUSE = 5.0  # seconds
LONGEST_PAUSE = 60.0  # seconds
JITTER = 0.2  # of a pause, more or less, so that partitions which stopped together are not tried together


class _Sentence(msgspec.Struct):
    pause: float
    until: float
    on_trial: bool = False


class Probation:
    """The partitions of one owner that stopped for a cause that may go."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stopped: dict[int, _Sentence] = {}

    def begin(self, partition: int) -> None:
        """It stopped, perhaps once more."""
        before = self._stopped.get(partition)
        pause = FIRST_PAUSE if before is None else min(2 * before.pause, LONGEST_PAUSE)
        wait = pause * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
        self._stopped[partition] = _Sentence(pause, self._clock() + wait)

    def call(self) -> list[int]:
        """Those whose pause is over; from here on they are on trial."""
        now = self._clock()
        due = [p for p, sentence in self._stopped.items() if not sentence.on_trial and sentence.until <= now]
        for partition in due:
            self._stopped[partition].on_trial = True
        return sorted(due)

    def on_trial(self) -> set[int]:
        """Those that may be claimed although they stopped."""
        return {partition for partition, sentence in self._stopped.items() if sentence.on_trial}

    def end(self, partitions: Iterable[int]) -> None:
        """They go on, or are not ours any more."""
        for partition in partitions:
            self._stopped.pop(partition, None)
