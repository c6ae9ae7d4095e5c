"""Sends load at a fixed rate: `python -m bench.clients.paced '<Paced as JSON>'` prints one `Answered` as JSON.

Each request starts at its scheduled time, even if earlier ones are not answered yet, and its latency counts from then.
So a server that stalls shows in the latencies (no coordinated omission).
"""

import asyncio
import gc
import random
import sys
import time
from collections.abc import Awaitable, Callable

import aiohttp
import msgspec
import uvloop

from bench.clients.first_sight import Accepted
from bench.clients.load import quantile
from bench.clients.traffic import bodies

DISTINCT = 5_000  # different bodies
REMEMBERED = 2_000  # newest events among which a GET chooses
TIMEOUT = aiohttp.ClientTimeout(total=30)  # seconds


class Paced(msgspec.Struct, frozen=True):
    """The POSTs of new events and GETs of known ones a second, and for how many seconds."""

    port: int
    posts: float
    gets: float
    seconds: float
    warmup: float = 2.0  # seconds that are not counted
    seed: int = 1


class Answered(msgspec.Struct, frozen=True):
    """Latencies of the GETs in milliseconds. `errors`: requests with another answer than 201 or 200."""

    gets: int
    p50: float
    p99: float
    errors: int


class Clients:
    """Sends POSTs and GETs over one session."""

    def __init__(self, task: Paced, session: aiohttp.ClientSession) -> None:
        self._task = task
        self._session = session
        self._bodies = bodies(task.seed, DISTINCT)
        self._known: list[str] = []
        self._chance = random.Random(task.seed)
        self.waits: list[float] = []  # seconds
        self.errors = 0

    async def post(self, number: int, _due: float) -> None:
        """Posts one event, and lets GETs ask for it a second later, when it is projected."""
        headers = {"content-type": "application/json"}
        body = self._bodies[number % DISTINCT]
        async with self._session.post("/events/generate", data=body, headers=headers) as answer:
            found = await answer.read()
        if answer.status != 201:
            self.errors += 1
            return
        await asyncio.sleep(1)
        self._known.append(msgspec.json.decode(found, type=Accepted).event.event_id)
        del self._known[:-REMEMBERED]

    async def get(self, _number: int, due: float) -> None:
        """Reads one of the newest events."""
        if not self._known:
            return
        async with self._session.get(f"/events/{self._chance.choice(self._known)}") as answer:
            await answer.read()
        self.waits.append(time.perf_counter() - due)
        if answer.status != 200:
            self.errors += 1


async def at_rate(rate: float, until: float, send: Callable[[int, float], Awaitable[None]]) -> None:
    """Starts each request at its scheduled time; returns when all are answered."""
    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        number = 0
        while (due := started + number / rate) < until:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(send(number, due))  # type: ignore[arg-type]  # a coroutine function
            number += 1


async def measure(task: Paced) -> Answered:
    """Sends for `warmup` + `seconds` seconds."""
    gc.disable()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{task.port}", timeout=TIMEOUT) as session:
        clients = Clients(task, session)
        end = time.perf_counter() + task.warmup + task.seconds

        async def forget() -> None:
            await asyncio.sleep(task.warmup)
            clients.waits.clear()

        await asyncio.gather(at_rate(task.posts, end, clients.post), at_rate(task.gets, end, clients.get), forget())
    waits = sorted(clients.waits)
    return Answered(len(waits), quantile(waits, 0.5) * 1000, quantile(waits, 0.99) * 1000, clients.errors)


if __name__ == "__main__":
    found = uvloop.run(measure(msgspec.json.decode(sys.argv[1], type=Paced)))
    print(msgspec.json.encode(found).decode())
