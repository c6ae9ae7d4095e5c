"""Adapts the batch size to what the database can take: smaller after a failure, larger while batches succeed.

The algorithm is slow start, then additive increase and multiplicative decrease, like TCP's congestion window
(RFC 5681). A failure halves the size. A full batch that succeeds doubles it, up to near the size that failed. From
there, every `FULL_BATCHES` full batches add an eighth.
"""

FULL_BATCHES = 4  # successes before the size grows near the size that failed: a failure costs a whole timeout


class BatchSize:
    """The batch size limit that the lanes of one generation share. `largest`: the configured maximum, in records."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._failed_at: float = float("inf")
        self._successes = 0  # full batches of this limit
        self.limit = largest

    def failed(self, records: int) -> None:
        """Halves the limit: a batch of `records` records took too much time, memory or space."""
        self._failed_at, self._successes = records, 0
        self.limit = max(1, min(self.limit, records // 2))

    def succeeded(self, records: int) -> None:
        """Raises the limit if it was reached: a batch of `records` records is committed."""
        if self.limit == self._largest or records < self.limit:
            return
        if records >= self._failed_at:
            self._failed_at = float("inf")
        self._successes += 1
        if self.limit * 2 < self._failed_at:
            self._grow_to(self.limit * 2)
        elif self._successes >= FULL_BATCHES:
            self._grow_to(self.limit + max(1, self.limit // 8))

    def _grow_to(self, limit: int) -> None:
        self.limit, self._successes = min(self._largest, limit), 0
