"""The producers of load: `python -m chaos.load '<Load as JSON>'` asks until SIGTERM and writes a history.

They know nothing but HTTP answers. Each worker has users of its own and waits for each answer, so the acknowledged
events of a user have one order. What is unknown is never asked again: without an idempotency key that were a new event.
"""

import asyncio
import random
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import uvloop

from chaos.history import Writer

KINDS, SHARES = ("PRODUCT_VIEW", "LOGIN", "LOGOUT"), (80, 12, 8)
PRODUCTS = 60
ANSWER_WITHIN = 8.0  # seconds; then nobody knows
REFUSED_PAUSE = 0.1  # seconds after a refused connection


class Load(msgspec.Struct, frozen=True):
    """Where to, how much, and the history's file. `epoch`: which start this is, for ids that never repeat."""

    port: int
    query_port: int
    history: str
    epoch: int
    seed: int
    workers: int = 24
    users_of_worker: int = 8
    per_second: float = 900.0


class Worker:
    """One client with users of its own."""

    def __init__(self, load: Load, number: int, session: aiohttp.ClientSession, writer: Writer) -> None:
        self._load, self._number, self._session, self._writer = load, number, session, writer
        self._chance = random.Random(f"{load.seed}/{load.epoch}/{number}")
        self._asked = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Asks until `stop`; the answer to the last question is waited for."""
        interval = self._load.workers / self._load.per_second
        loop = asyncio.get_running_loop()
        due = loop.time() + self._chance.random() * interval
        while not stop.is_set():
            await asyncio.sleep(max(0.0, due - loop.time()))
            due = max(due, loop.time() - 1.0) + interval
            await self._ask()

    async def _ask(self) -> None:
        self._asked += 1
        op = f"{self._load.epoch}-{self._number}-{self._asked}"
        user = f"user-{self._number}-{self._chance.randrange(self._load.users_of_worker)}"
        kind = self._chance.choices(KINDS, SHARES)[0]
        payload = self._payload(op, kind)
        self._writer.invoke(op, user, kind, payload)
        try:
            await self._post(op, {"userId": user, "eventType": kind, "payload": payload})
        except aiohttp.ClientConnectorError as error:  # nothing was sent
            self._writer.end(op, "fail", why=type(error).__name__)
            await asyncio.sleep(REFUSED_PAUSE)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._writer.end(op, "info", why=type(error).__name__)

    async def _post(self, op: str, body: dict[str, Any]) -> None:
        url = f"http://127.0.0.1:{self._load.port}/events/generate"
        async with self._session.post(url, json=body) as answer:
            text = await answer.read()
        if answer.status == 201:
            self._writer.end(op, "ok", event=bytes(msgspec.json.decode(text, type=Accepted).event))
        else:
            unknown = answer.status in (408, 503)
            self._writer.end(op, "info" if unknown else "fail", why=str(answer.status))

    def _payload(self, op: str, kind: str) -> dict[str, Any]:
        if kind != "PRODUCT_VIEW":
            return {"op": op, "mfa": self._chance.random() < 0.3}
        price = round(self._chance.uniform(1, 900), 2)
        return {"op": op, "productId": f"p-{self._chance.randrange(PRODUCTS)}", "price": price, "note": "größer → λ"}


class Accepted(msgspec.Struct):
    """The part of a 201 that counts, byte for byte."""

    event: msgspec.Raw


async def read_now_and_then(load: Load, session: aiohttp.ClientSession, stop: asyncio.Event) -> None:
    """Keeps the query side at work."""
    while not stop.is_set():
        try:
            async with session.get(f"http://127.0.0.1:{load.query_port}/health/ready") as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass
        await asyncio.sleep(0.2)


async def run(load: Load) -> None:
    """Asks until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    writer = Writer(Path(load.history))
    timeout, connector = aiohttp.ClientTimeout(total=ANSWER_WITHIN), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session, asyncio.TaskGroup() as tasks:
        tasks.create_task(read_now_and_then(load, session, stop))
        for number in range(load.workers):
            tasks.create_task(Worker(load, number, session, writer).run(stop))


if __name__ == "__main__":
    uvloop.run(run(msgspec.json.decode(sys.argv[1], type=Load)))
