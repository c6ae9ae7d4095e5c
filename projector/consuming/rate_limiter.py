"""Limits the rate of one generation. The projectors share the rate in proportion to the partitions they hold."""

import time
from collections.abc import Callable

BURST = 0.25  # seconds; the records of this time may be fetched at once


class RateLimiter:
    """A token bucket; one token is one record.

    Lanes that ask at the same time may overdraw it. Then it allows no records until the debt is refilled.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tokens = 0.0
        self._filled_at = clock()

    def available(self, rate: float | None, wanted: int) -> int:
        """Returns how many of `wanted` records a lane may fetch now; 0 means: wait a little and ask again.

        Args:
            rate: records a second; None: no limit.
            wanted: the number of records the lane would like to fetch.
        """
        now = self._clock()
        elapsed, self._filled_at = now - self._filled_at, now
        if rate is None:
            self._tokens = 0.0
            return wanted
        self._tokens = min(self._tokens + elapsed * rate, max(rate * BURST, 1.0))
        return max(0, min(wanted, int(self._tokens)))

    def spend(self, records: int) -> None:
        """Removes tokens for the records that were fetched."""
        self._tokens -= records
