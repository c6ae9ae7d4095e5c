"""A cap on the rate of one generation, shared by the projectors in proportion to the partitions they hold."""

import time
from collections.abc import Callable

BURST = 0.25  # seconds' worth of records that may be taken at once


class RateLimiter:
    """A token bucket whose tokens are records.

    Lanes that ask side by side may overdraw it; then nobody takes anything until that is paid back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tokens = 0.0
        self._filled_at = clock()

    def room(self, rate: float | None, wanted: int) -> int:
        """How many records may be taken now, of `wanted`; 0: wait a little. `rate`: records a second, None: no cap."""
        now = self._clock()
        elapsed, self._filled_at = now - self._filled_at, now
        if rate is None:
            self._tokens = 0.0
            return wanted
        self._tokens = min(self._tokens + elapsed * rate, max(rate * BURST, 1.0))
        return max(0, min(wanted, int(self._tokens)))

    def spend(self, records: int) -> None:
        """Takes what was really fetched."""
        self._tokens -= records
