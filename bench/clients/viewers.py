"""Looks at the console as browsers: `python -m bench.clients.viewers '<Viewers as JSON>'` prints one `Answered`.

Each viewer opens the overview and lets it ask for what changes, at the paces of its page. A request starts at its
scheduled time, and its latency counts from then (no coordinated omission).
"""

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable

import aiohttp
import msgspec
import uvloop

from bench.clients.load import quantile
from bench.clients.paced import TIMEOUT, Answered, at_rate

# Seconds between two requests of one viewer: what the page asks for, and somebody who reloads it now and then.
PACES = {"/console/now": 2.0, "/console/history.json?range=15m": 10.0, "/console": 20.0}


class Viewers(msgspec.Struct, frozen=True):
    """How many there are, and for how many seconds they look."""

    port: int
    viewers: int
    seconds: float
    warmup: float = 3.0  # seconds that are not counted


class Browsers:
    """All viewers, over as many connections as are needed at once."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.waits: list[float] = []  # seconds
        self.errors = 0

    def of(self, path: str) -> Callable[[int, float], Awaitable[None]]:
        """What asks for this, as `at_rate` calls it."""

        async def get(_number: int, due: float) -> None:
            async with self._session.get(path) as answer:
                await answer.read()
            self.waits.append(time.perf_counter() - due)
            self.errors += answer.status != 200

        return get


async def measure(task: Viewers) -> Answered:
    """Looks for `warmup` + `seconds` seconds."""
    gc.disable()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{task.port}", timeout=TIMEOUT, connector=connector) as session:
        browsers = Browsers(session)
        end = time.perf_counter() + task.warmup + task.seconds

        async def forget() -> None:
            await asyncio.sleep(task.warmup)
            browsers.waits.clear()

        paced = [at_rate(task.viewers / pace, end, browsers.of(path)) for path, pace in PACES.items()]
        await asyncio.gather(*paced, forget())
    waits = sorted(browsers.waits)
    return Answered(len(waits), quantile(waits, 0.5) * 1000, quantile(waits, 0.99) * 1000, browsers.errors)


if __name__ == "__main__":
    found = uvloop.run(measure(msgspec.json.decode(sys.argv[1], type=Viewers)))
    print(msgspec.json.encode(found).decode())
