"""How many records one batch may have, as the database shows it: less after what was too much, more while it goes well.

Additive increase and multiplicative decrease with a slow start, as TCP finds its window (RFC 5681): half after a
failure; twice as many after a full batch that went well, up to near what failed; from there an eighth more, after
every few full batches.
"""

FULL_BATCHES = 4  # that go well, near what failed, before a larger one is tried: a failure costs a whole timeout


class BatchSize:
    """The limit that the lanes of one generation share. `largest`: records, when nothing stands in the way."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._failed_at: float = float("inf")
        self._went_well = 0  # full batches of this limit
        self.limit = largest

    def too_much(self, records: int) -> None:
        """A batch of so many records took too long, or more room than there is."""
        self._failed_at, self._went_well = records, 0
        self.limit = max(1, min(self.limit, records // 2))

    def went_well(self, records: int) -> None:
        """A batch of so many records is committed."""
        if self.limit == self._largest or records < self.limit:
            return
        if records >= self._failed_at:
            self._failed_at = float("inf")
        self._went_well += 1
        if self.limit * 2 < self._failed_at:
            self._grow_to(self.limit * 2)
        elif self._went_well >= FULL_BATCHES:
            self._grow_to(self.limit + max(1, self.limit // 8))

    def _grow_to(self, limit: int) -> None:
        self.limit, self._went_well = min(self._largest, limit), 0
