"""Posts traffic through the front while a container of each service is killed, then accounts for every event."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

from chaos.containers.composition import PORT, Composition
from chaos.containers.unread import hold_unread
from footfall.local.demo.traffic import Activity, a_day_of_traffic

FRONT = f"http://127.0.0.1:{PORT}"
BATCH = 100  # events of one request
SINGLE_SHARE = 20  # one in this many actions is posted singly
WORKERS = 4
USERS = 200
SEED = 2026
PATIENCE = 300.0  # seconds until one command is accepted, and until all events are visible
AGAIN = 0.5  # seconds between two tries of one command
LARGE = 16_000  # bytes of a payload
LARGE_EVENTS = 600  # so that a page of events is as large as it may be
PAUSE = 0.5  # seconds between two batches of a worker, so that the load lasts as long as the kills

Say = Callable[[str], None]


class LostError(Exception):
    """An event is missing, doubled or invented; the text says how many."""


@dataclass
class Account:
    """The acknowledged events, by id, and the ids that were found."""

    acknowledged: dict[str, bytes] = field(default_factory=dict)
    requests: int = 0
    refused: int = 0  # answers that were not final, so the command was repeated with the same key
    found: list[str] = field(default_factory=list)
    took: float = 0.0  # seconds

    def check(self) -> None:
        """Raises LostError unless each acknowledged event was found exactly once, and no other event."""
        found, wanted = set(self.found), set(self.acknowledged)
        faults = {
            "missing": len(wanted - found),
            "phantom": len(found - wanted),
            "doubled": len(self.found) - len(found),
        }
        if any(faults.values()) or not wanted:
            raise LostError(f"{len(wanted)} acknowledged, {len(found)} found: {faults}")


async def account_for(composition: Composition, events: int, say: Say) -> Account:
    """Posts at least `events`, until every service was killed once and is healthy again. Raises LostError."""
    account = Account()
    began = time.monotonic()
    killed = asyncio.Event()
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(FRONT, timeout=timeout) as http:
        async with asyncio.TaskGroup() as tasks:
            for worker in range(WORKERS):
                tasks.create_task(_post(http, worker, events // WORKERS, killed, account))
            tasks.create_task(_kill_each(composition, killed, say))
        await _post_large(http, account)
        say(f"{len(account.acknowledged)} events acknowledged; {account.refused} tries were refused and repeated")
        await _until_all_are_visible(http, account)
        held = await hold_unread(composition)
        say(
            f"{held.answered} answers unread and {held.refused} clients refused at the same time: {held.added:.0f} MiB "
            f"more in a container of {held.limit:.0f} MiB, and {held.left:.0f} MiB of it once they had left"
        )
    account.took = time.monotonic() - began
    return account


async def _kill_each(composition: Composition, killed: asyncio.Event, say: Say) -> None:
    for service in composition.services:
        if composition.is_job(service):
            continue
        say(f"killing a container of {service}")
        began = time.monotonic()
        await asyncio.to_thread(composition.kill, service)
        await asyncio.to_thread(composition.until_healthy, service)
        say(f"{service}: killed, started again and healthy after {time.monotonic() - began:.1f} s")
    killed.set()


async def _post(http: aiohttp.ClientSession, worker: int, least: int, killed: asyncio.Event, account: Account) -> None:
    """Posts traffic in batches and singly; each command has its own key and is repeated until its answer is final."""
    day, posted = 0, 0
    while posted < least or not killed.is_set():
        activities = a_day_of_traffic(1000, USERS, SEED + worker * 1000 + day)
        day += 1
        for start in range(0, len(activities), BATCH):
            part = activities[start : start + BATCH]
            key = f"rehearsal-{worker}-{day}-{start}"
            await _post_part(http, key, part, account)
            posted += len(part)
            await asyncio.sleep(PAUSE)
            if posted >= least and killed.is_set():
                return


async def _post_large(http: aiohttp.ClientSession, account: Account) -> None:
    for number in range(0, LARGE_EVENTS, 50):
        items = [
            {"userId": f"u-{n}", "eventType": "LOGIN", "payload": {"text": "x" * LARGE}, "idempotencyKey": f"large-{n}"}
            for n in range(number, number + 50)
        ]
        await _post_batch(http, items, account)


async def _post_part(http: aiohttp.ClientSession, key: str, part: list[Activity], account: Account) -> None:
    singles, rest = part[::SINGLE_SHARE], [each for index, each in enumerate(part) if index % SINGLE_SHARE]
    for index, activity in enumerate(singles):
        answer = await _insist(http, "/events/generate", f"{key}-{index}", activity.body, account)
        _note(answer, account)
    items = [dict(msgspec.json.decode(each.body), idempotencyKey=f"{key}-b{index}") for index, each in enumerate(rest)]
    await _post_batch(http, items, account)


async def _post_batch(http: aiohttp.ClientSession, items: list[dict[str, Any]], account: Account) -> None:
    waiting = items
    while waiting:
        answer = await _insist(http, "/events/generate/batch", None, msgspec.json.encode(waiting), account)
        results = answer["results"]
        for result in results:
            _note(result, account)
        waiting = [item for item, result in zip(waiting, results, strict=True) if not result["success"]]
        account.refused += len(waiting)


def _note(answer: dict[str, object], account: Account) -> None:
    event = answer.get("event")
    if answer["success"] and isinstance(event, dict):
        account.acknowledged[str(event["eventId"])] = msgspec.json.encode(event)


async def _insist(http: aiohttp.ClientSession, path: str, key: str | None, body: bytes, account: Account) -> Any:
    """Posts until the answer is final; repeats refused, unknown and interrupted requests with the same key."""
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    deadline = time.monotonic() + PATIENCE
    said = ""
    while time.monotonic() < deadline:
        account.requests += 1
        try:
            async with http.post(path, data=body, headers=headers) as answer:
                text = await answer.read()
                if answer.status in (200, 201, 207):
                    return msgspec.json.decode(text)
                said = f"{answer.status} {text[:200]!r}"
                if answer.status < 500:
                    raise LostError(f"{path}: a valid command was answered {said}")
        except (aiohttp.ClientError, TimeoutError) as error:
            said = type(error).__name__
        account.refused += 1
        await asyncio.sleep(AGAIN)
    raise LostError(f"{path}: no final answer within {PATIENCE:.0f} s; the last was {said}")


async def _until_all_are_visible(http: aiohttp.ClientSession, account: Account) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        account.found = await _stored(http)
        if set(account.acknowledged) <= set(account.found):
            break
        await asyncio.sleep(1)
    account.check()


async def _stored(http: aiohttp.ClientSession) -> list[str]:
    async with http.get("/events/processed", headers={"Accept": "application/x-ndjson"}) as answer:
        if answer.status != 200:
            return []
        return [msgspec.json.decode(line)["eventId"] for line in (await answer.read()).splitlines()]
