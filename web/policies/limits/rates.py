"""Rates, counted by the Generic Cell Rate Algorithm (ITU-T I.371): one number for each of those who ask.

The number is the time at which everything that was used will have been given back. It grows by every request and never
has to be reset, so there is no window at whose end everybody comes at once.
"""

from typing import Protocol

import msgspec

from web.policies.remembered import Remembered

MOST_BUCKETS = 65_536  # of one kind; the ones that were used least recently are forgotten, and begin anew


class Rate(msgspec.Struct, frozen=True):
    """So many units in so many seconds, which may also be used at once."""

    name: str  # in `RateLimit-Policy`
    units: int
    window: float  # seconds


def part_of(units: int, percent: int) -> int:
    """A part of what may be used, and one unit at least; 0, which is no limit, stays so."""
    return max(1, units * percent // 100) if units else 0


class Bucket:
    """What one key has used."""

    __slots__ = ("full_at", "key", "untold")

    def __init__(self, key: str) -> None:
        self.key = key
        self.full_at = 0.0  # when it has everything again
        self.untold = 0.0  # seconds that it used and that other processes do not know of; see `valkey_rates.py`


class Buckets:
    """The buckets of one rate, by key."""

    __slots__ = ("_buckets", "interval", "most", "name", "policy", "window")

    def __init__(self, rate: Rate, most: int = MOST_BUCKETS) -> None:
        self.name, self.window = rate.name, rate.window
        self.most = rate.window * (1 + 1e-9)  # what is added up in parts is not exactly the whole
        self.interval = rate.window / rate.units  # seconds in which a unit is given back
        self.policy = b'"%b";q=%d;w=%d' % (rate.name.encode(), rate.units, max(1, round(rate.window)))
        self._buckets: Remembered[str, Bucket] = Remembered(most)

    def of(self, key: str) -> Bucket:
        """The bucket of a key: a full one if it was not seen of late."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = Bucket(key)
            self._buckets.put(key, bucket)
        return bucket

    def left(self, full_at: float, now: float) -> int:
        """Units that may be used now."""
        return max(0, int((self.window - full_at + now) / self.interval))

    def __len__(self) -> int:
        return len(self._buckets)


class Sharing(Protocol):
    """Rates over several processes; see `valkey_rates.py`."""

    def unknown(self, window: float) -> float:
        """Seconds that others may have used of a bucket that looks unused here."""
        ...

    def note(self, buckets: Buckets, bucket: Bucket, seconds: float) -> None:
        """The bucket was used so much. Does not wait."""
        ...
