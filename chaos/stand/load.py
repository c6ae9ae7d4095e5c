"""The load: `python -m chaos.stand.load '<Load as JSON>'` sends commands until SIGTERM and writes a history.

It sees only HTTP answers. Each worker has its own users and waits for each answer, so the acknowledged events of a user
have one order. A command with an unknown outcome is not repeated: without an idempotency key that would be a new event.
Some workers send batches whose items have keys, and repeat those (`KeyedWorker`).
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

from chaos.checking.history import Outcome, Writer

KINDS, SHARES = ("PRODUCT_VIEW", "LOGIN", "LOGOUT"), (80, 12, 8)
PRODUCTS = 60
ANSWER_WITHIN = 8.0  # seconds; after that the outcome is unknown
REFUSED_PAUSE = 0.1  # seconds after a refused connection
UNKNOWN = (408, 503)  # statuses after which the event may be recorded or not

BATCH_ITEMS, REPEATED_ITEMS = 6, 2  # items of a batch with keys; how many of them occur twice in it
BATCH_INTERVAL = 0.3  # seconds between two batches
DISCONNECTING = 0.3  # share of batches for which one of the two clients disconnects before the answer
REPEATS, REPEAT_PAUSE = 3, 0.3  # how often items with an unknown outcome are sent again; seconds between

Answer = tuple[str, Outcome, bytes]  # an operation, one answer to it, and the event if the answer was 201


class Load(msgspec.Struct, frozen=True):
    """Ports, rate and history file of the load. `epoch`: number of this start, so that ids never repeat."""

    port: int
    query_port: int
    history: str
    epoch: int
    seed: int
    workers: int = 24
    users_of_worker: int = 8
    per_second: float = 900.0
    keyed_workers: int = 4


class Worker:
    """One client with its own users."""

    def __init__(self, load: Load, number: int, session: aiohttp.ClientSession, writer: Writer) -> None:
        self._load, self._number, self._session, self._writer = load, number, session, writer
        self._chance = random.Random(f"{load.seed}/{load.epoch}/{number}")
        self._asked = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Sends commands until `stop`, and waits for the answer to the last one."""
        interval = self.interval()
        loop = asyncio.get_running_loop()
        due = loop.time() + self._chance.random() * interval
        while not stop.is_set():
            await asyncio.sleep(max(0.0, due - loop.time()))
            due = max(due, loop.time() - 1.0) + interval
            await self._ask()

    def interval(self) -> float:
        """Returns the seconds between two commands."""
        return self._load.workers / self._load.per_second

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
            self._writer.end(op, _outcome(answer.status), why=str(answer.status))

    def _payload(self, op: str, kind: str) -> dict[str, Any]:
        if kind != "PRODUCT_VIEW":
            return {"op": op, "mfa": self._chance.random() < 0.3}
        price = round(self._chance.uniform(1, 900), 2)
        return {"op": op, "productId": f"p-{self._chance.randrange(PRODUCTS)}", "price": price, "note": "größer → λ"}


class Accepted(msgspec.Struct):
    """The event in a 201, byte for byte."""

    event: msgspec.Raw


class Result(msgspec.Struct):
    """Status and event of an item's result."""

    status: int
    event: msgspec.Raw


class Results(msgspec.Struct):
    """The results of a batch; empty if one error answers the whole batch."""

    results: list[Result] = []


class KeyedWorker(Worker):
    """One client that sends batches: each item has its own key and user, and some keys occur twice in a batch.

    It sends each batch over two connections at once, one of which may disconnect before the answer. Then it repeats the
    items whose outcome is unknown.
    """

    def interval(self) -> float:
        """See `Worker.interval`."""
        return BATCH_INTERVAL

    async def _ask(self) -> None:
        self._asked += 1
        items = [self._item(n) for n in range(BATCH_ITEMS)]
        for item in items:
            self._writer.invoke(item["idempotencyKey"], item["userId"], item["eventType"], item["payload"])
        body = [*items, *items[:REPEATED_ITEMS]]
        timeout = self._chance.uniform(0.0, 0.3) if self._chance.random() < DISCONNECTING else ANSWER_WITHIN
        first, second = await asyncio.gather(self._post_batch(body, timeout), self._post_batch(body))
        answers = first + second
        for _ in range(REPEATS):
            unknown = _unknown(answers)
            if not unknown:
                break
            await asyncio.sleep(REPEAT_PAUSE)
            answers += await self._post_batch([item for item in items if item["idempotencyKey"] in unknown])
        self._write(answers)

    def _item(self, number: int) -> dict[str, Any]:
        op = f"{self._load.epoch}-k{self._number}-{self._asked}-{number}"
        kind = self._chance.choices(KINDS, SHARES)[0]
        user = f"user-k{self._number}-{number}"
        return {"userId": user, "eventType": kind, "payload": self._payload(op, kind), "idempotencyKey": op}

    async def _post_batch(self, items: list[dict[str, Any]], timeout: float = ANSWER_WITHIN) -> list[Answer]:
        """Posts a batch and returns the answer to each item, in their order. `timeout`: seconds."""
        ops = [item["idempotencyKey"] for item in items]
        url = f"http://127.0.0.1:{self._load.port}/events/generate/batch"
        try:
            async with asyncio.timeout(timeout), self._session.post(url, json=items) as answer:
                results = msgspec.json.decode(await answer.read(), type=Results).results
        except aiohttp.ClientConnectorError:  # nothing was sent
            return [(op, "fail", b"") for op in ops]
        except (aiohttp.ClientError, TimeoutError, OSError):
            return [(op, "info", b"") for op in ops]
        if not results:
            return [(op, "info" if answer.status in UNKNOWN else "fail", b"") for op in ops]
        return [(op, _outcome(one.status), bytes(one.event)) for op, one in zip(ops, results, strict=True)]

    def _write(self, answers: list[Answer]) -> None:
        for op in dict.fromkeys(op for op, _, _ in answers):
            events = [event for found, outcome, event in answers if found == op and outcome == "ok"]
            for event in dict.fromkeys(events):
                self._writer.end(op, "ok", event=event)
            if not events:
                self._writer.end(op, "info" if op in _unknown(answers) else "fail")


def _outcome(status: int) -> Outcome:
    if status == 201:
        return "ok"
    return "info" if status in UNKNOWN else "fail"


def _unknown(answers: list[Answer]) -> set[str]:
    """Returns the operations with an unknown answer and no answer that acknowledges them."""
    acknowledged = {op for op, outcome, _ in answers if outcome == "ok"}
    return {op for op, outcome, _ in answers if outcome == "info"} - acknowledged


async def poll_query_side(load: Load, session: aiohttp.ClientSession, stop: asyncio.Event) -> None:
    """Asks the query side for its readiness again and again, until `stop`."""
    while not stop.is_set():
        try:
            async with session.get(f"http://127.0.0.1:{load.query_port}/health/ready") as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass
        await asyncio.sleep(0.2)


async def run(load: Load) -> None:
    """Runs all workers until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    writer = Writer(Path(load.history))
    timeout, connector = aiohttp.ClientTimeout(total=ANSWER_WITHIN), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session, asyncio.TaskGroup() as tasks:
        tasks.create_task(poll_query_side(load, session, stop))
        for number in range(load.workers):
            tasks.create_task(Worker(load, number, session, writer).run(stop))
        for number in range(load.keyed_workers):
            tasks.create_task(KeyedWorker(load, number, session, writer).run(stop))


if __name__ == "__main__":
    uvloop.run(run(msgspec.json.decode(sys.argv[1], type=Load)))
