"""Rates over several processes: each counts for itself, and tells a Valkey of all of them now and then what was used.

No request waits for it. What the others let through, a process only knows from the last round. So from one round to the
next it lends a key no more than a part of its units: a limit is exceeded by no more than that part for each process.
While Valkey is away, each process goes on by what it has counted itself. Once it is back,
it is told what is still owed then: the rest was given back meanwhile, as time passed.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from hashlib import blake2b
from math import isfinite
from typing import Any

from pydantic import SecretStr
from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError

from telemetry.background import running_beside
from telemetry.health import DependencyState
from telemetry.logs import get_logger
from web.policies.limits.rates import MOST_BUCKETS, Bucket, Buckets

EVERY = 0.25  # seconds between two rounds
LENT = 1 / 8  # of a key's units, from one round to the next
TIMEOUT = 2.0  # seconds for one round
MOST_KEYS = 10_000  # in one round; further ones are told in the next
LEAST = 1e-9  # seconds; less is nothing
MOST_OWED = 2  # windows; a bucket that owes more was told of before Valkey's clock went back
PREFIX = "footfall:{limits}:"  # one slot, so that one script may have them all

# The same algorithm as in `rates.py`, by the clock of Valkey. KEYS: buckets; ARGV: the seconds that each has used, and
# then the most that each may owe.
TELL = """
local at = redis.call('TIME')
local now = at[1] + at[2] / 1000000
local ahead = {}
for i, key in ipairs(KEYS) do
  local full_at = tonumber(redis.call('GET', key) or now)
  if full_at < now then full_at = now end
  local most = tonumber(ARGV[#KEYS + i])
  if full_at > now + most then full_at = now + most end
  full_at = full_at + tonumber(ARGV[i])
  if full_at > now then
    redis.call('SET', key, string.format('%.6f', full_at), 'PX', math.ceil((full_at - now) * 1000))
  end
  ahead[i] = string.format('%.6f', full_at - now)
end
return ahead
"""


class SharedRates:
    """What this process used and has not told yet."""

    def __init__(self, url: SecretStr, clock: Callable[[], float] = time.monotonic) -> None:
        """`url`: of Valkey; it may hold a password, which may change. `clock`: the one of the rates."""
        self._url, self._used_url = url, ""
        self._connect(url.get_secret_value())
        self._clock = clock
        self._touched: list[tuple[Buckets, Bucket]] = []  # with something untold, each once
        self._trouble = "Valkey was not asked yet"

    def unknown(self, window: float) -> float:
        """Seconds that others may have used of a bucket that looks unused here."""
        return 0.0 if self._trouble else window * (1 - LENT)

    def note(self, buckets: Buckets, bucket: Bucket, seconds: float) -> None:
        """The bucket was used so much. Does not wait."""
        if not bucket.untold:
            self._touched.append((buckets, bucket))
        bucket.untold = min(bucket.untold + seconds, 2 * buckets.window)

    def _connect(self, url: str) -> None:
        self._valkey = Valkey.from_url(
            url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, decode_responses=True
        )
        self._script = self._valkey.register_script(TELL)
        self._used_url = url

    async def _follow_the_url(self) -> None:
        url = self._url.get_secret_value()
        if url != self._used_url:
            await self.close()
            self._connect(url)

    async def tell(self) -> None:
        """One round: tells what was used, and learns what all have used. Never raises."""
        told, self._touched = self._touched[:MOST_KEYS], self._touched[MOST_KEYS:]
        used = self._owed(told)
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._follow_the_url()
                found = await self._told(told, used)
        except Exception as error:  # noqa: BLE001 - its client's errors are no closed set
            self._touched = self._bounded(told + self._touched)
            self._failed(type(error).__name__)
            return
        self._trouble = ""
        for (buckets, bucket), seconds, ahead in zip(told, used, found, strict=True):
            self._learn(buckets, bucket, seconds, ahead)

    def _owed(self, touched: list[tuple[Buckets, Bucket]]) -> list[float]:
        """What to tell of each bucket: never more than it owes now, however long nothing could be told."""
        now = self._clock()
        for _, bucket in touched:
            bucket.untold = min(bucket.untold, max(0.0, bucket.full_at - now))
        return [bucket.untold for _, bucket in touched]

    def _bounded(self, touched: list[tuple[Buckets, Bucket]]) -> list[tuple[Buckets, Bucket]]:
        """Those to be told of later. Of too many, the ones that were noted last: the others count here alone."""
        if len(touched) <= MOST_BUCKETS:
            return touched
        for _, bucket in touched[:-MOST_BUCKETS]:
            bucket.untold = 0.0
        return touched[-MOST_BUCKETS:]

    async def _told(self, told: list[tuple[Buckets, Bucket]], used: list[float]) -> list[float]:
        if not told:
            await self._valkey.ping()
            return []
        names, most = [name_of(*one) for one in told], [MOST_OWED * buckets.window for buckets, _ in told]
        found: Any = await self._script(keys=names, args=[f"{seconds:.9f}" for seconds in (*used, *most)])
        ahead = [float(each) for each in found]
        if len(ahead) != len(names) or not all(map(isfinite, ahead)):
            raise ValueError("what answers there is no Valkey")
        return ahead

    def _learn(self, buckets: Buckets, bucket: Bucket, told: float, ahead: float) -> None:
        rest = bucket.untold - told  # used while Valkey was told
        bucket.untold = rest if rest > LEAST else 0.0
        lent = buckets.window * (1 - LENT)  # so much must stay for the others until the next round
        bucket.full_at = self._clock() + max(ahead + bucket.untold, lent)
        if bucket.untold:
            self._touched.append((buckets, bucket))

    def _failed(self, trouble: str) -> None:
        if not self._trouble:
            get_logger("web").warning("shared_limits_away", error=trouble)
        self._trouble = trouble

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tells now and then while the body runs, and once more at its end."""
        try:
            async with running_beside(self._run, "shared rates"):
                yield
        finally:
            await self.tell()
            await self.close()

    async def close(self) -> None:
        """Leaves Valkey."""
        with suppress(ValkeyError, OSError):
            await self._valkey.aclose()

    async def _run(self) -> None:
        while True:
            await self.tell()
            await asyncio.sleep(EVERY)

    async def state(self) -> DependencyState:
        """Never a reason not to serve: without Valkey each process counts for itself."""
        if not self._trouble:
            return DependencyState(ok=True)
        return DependencyState(ok=True, detail=f"each process counts for itself: {self._trouble}")


def name_of(buckets: Buckets, bucket: Bucket) -> str:
    """The bucket's name in Valkey, which does not tell who it is."""
    return f"{PREFIX}{buckets.name}:{blake2b(bucket.key.encode(), digest_size=16).hexdigest()}"
