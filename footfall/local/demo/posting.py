"""Posts the demo's events, one by one and in batches, and notes every answer."""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import aiohttp
import msgspec

from footfall.local.demo.account import Account, DemoOptions, event_id_of
from footfall.local.demo.traffic import INVALID_BODIES, a_day_of_traffic

BATCH = 100  # events in one batch
ONE_BY_ONE = 16  # one in this many connections posts its first events one by one
SINGLY = 200  # of its events; a percentile needs no more, and a slow machine has the day posted in seconds
AT_REST = 100  # of their events, the last ones, are posted when all others are projected


@dataclass
class Lanes:
    """The bodies of each connection: those that it posts one by one, and those that it posts in batches afterwards."""

    singly: list[list[bytes]]
    in_batches: list[list[bytes]]


def plan(options: DemoOptions) -> tuple[Lanes, list[bytes]]:
    """The bodies of each of `options.connections` connections, and the last ones of the first, for the end."""
    rng = random.Random(options.seed)  # noqa: S311 - repeatable on purpose
    lanes: list[list[bytes]] = [[] for _ in range(options.connections)]
    lane_of: dict[str, list[bytes]] = {}  # each new user is assigned to the next lane
    for activity in a_day_of_traffic(options.events, options.users, options.seed):
        lane_of.setdefault(activity.user_id, lanes[len(lane_of) % len(lanes)]).append(activity.body)
    first = lanes[0]
    kept = max(0, len(first) - AT_REST, len(first) // 2)
    last, first[kept:] = first[kept:], []
    singles = max(1, options.connections // ONE_BY_ONE)
    singly = [lane[:SINGLY] if number < singles else [] for number, lane in enumerate(lanes)]
    in_batches = [lane[len(taken) :] for lane, taken in zip(lanes, singly, strict=True)]
    for body in itertools.islice(itertools.cycle(INVALID_BODIES), options.invalid):
        lane = rng.choice(singly[:singles])
        lane.insert(rng.randint(0, len(lane)), body)
    return Lanes(singly, in_batches), last


async def post_all(http: aiohttp.ClientSession, lanes: Lanes, account: Account, advance: Callable[[int], None]) -> None:
    """Posts all bodies of all connections at the same time."""

    async def post(singly: list[bytes], in_batches: list[bytes]) -> None:
        await post_one_by_one(http, singly, account, account.post_seconds, advance)
        await post_in_batches(http, in_batches, account, advance)

    await asyncio.gather(*itertools.starmap(post, zip(lanes.singly, lanes.in_batches, strict=True)))


async def post_in_batches(
    http: aiohttp.ClientSession, bodies: Sequence[bytes], account: Account, advance: Callable[[int], None]
) -> None:
    for first in range(0, len(bodies), BATCH):
        batch = bodies[first : first + BATCH]
        headers = {"Content-Type": "application/x-ndjson"}
        async with http.post("/events/generate/batch", data=b"\n".join(batch), headers=headers) as response:
            answer = await response.read()
        account.sent += len(batch)
        account.batches += 1
        account.batched += len(batch)
        note_batch(account, len(batch), response.status, answer)
        advance(len(batch))


async def post_one_by_one(
    http: aiohttp.ClientSession,
    bodies: Iterable[bytes],
    account: Account,
    times: list[float],
    advance: Callable[[int], None],
) -> None:
    """Posts one body after another; `times` receives the seconds until each 201."""
    for body in bodies:
        started = time.perf_counter()
        async with http.post("/events/generate", data=body, headers={"Content-Type": "application/json"}) as response:
            answer = await response.read()
        account.sent += 1
        if note_answer(account, body, response.status, answer):
            times.append(time.perf_counter() - started)
        advance(1)


class _Accepted(msgspec.Struct):
    event: msgspec.Raw


class _Result(msgspec.Struct):
    status: int
    event: msgspec.Raw


class _Results(msgspec.Struct):
    results: list[_Result]


_accepted = msgspec.json.Decoder(_Accepted)
_results = msgspec.json.Decoder(_Results)


def note_answer(account: Account, body: bytes, status: int, answer: bytes) -> bool:
    """Counts one answer; returns whether it accepted an event.

    Any status but 201 for a valid body and 400 for an invalid one is a surprise.
    """
    invalid = body in INVALID_BODIES
    if status == 201 and not invalid:
        event = bytes(_accepted.decode(answer).event)
        account.accepted[event_id_of(event)] = event
        return True
    if status == 400 and invalid:
        account.rejected += 1
    else:
        account.surprises.append(f"{status} for {body[:60]!r}")
    return False


def note_batch(account: Account, sent: int, status: int, answer: bytes) -> None:
    """Counts the answer to a batch of valid commands. Any status but 201 for each command is a surprise."""
    results = _results.decode(answer).results if status in (201, 207) else []
    for result in results:
        if result.status == 201:
            event = bytes(result.event)
            account.accepted[event_id_of(event)] = event
        else:
            account.surprises.append(f"{result.status} for an event of a batch")
    if len(results) != sent:
        account.surprises.append(f"{status} for a batch of {sent}: {answer[:60]!r}")
