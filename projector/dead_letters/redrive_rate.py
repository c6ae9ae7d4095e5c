"""Limits the rate of a redrive or discard."""

import asyncio
import time


class RedriveRate:
    """Limits the rate of a run, in letters a second, by a pause after each chunk."""

    def __init__(self, rate: float | None, chunk: int) -> None:
        """`rate`: letters a second; None: no limit. `chunk`: letters in one transaction, at most."""
        self._rate = rate
        self._started = time.monotonic()
        self.chunk = chunk if rate is None else max(1, min(chunk, int(rate)))

    async def throttle(self, done: int) -> None:
        """Waits until so many letters may have been done."""
        if self._rate is not None:
            await asyncio.sleep(self._started + done / self._rate - time.monotonic())
