"""The demo's course: post a day of traffic, disturb it, wait until all is projected, and account for every event.

Most users' events come in batches, as a backend sends what it has gathered; some users' come one by one, as their
devices would send them: the latencies are of those. Each user's events stay in order, on one connection.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import aiohttp
import asyncpg
import msgspec
from aiokafka import AIOKafkaProducer
from rich.progress import Progress, TaskID

from contracts.record import TOPIC
from footfall.local.demo.traffic import BROKEN_VALUES, INVALID_BODIES, a_day_of_traffic
from footfall.local.running import Running

PATIENCE = 60.0  # seconds without progress before the demo gives up on what is missing
LOOK_EVERY = 0.1  # seconds between looks at the checkpoints
VISIBLE_SAMPLES = 300
GIVE_UP_ON_ONE = 30.0  # seconds
BATCH = 100  # events of one batch
ONE_BY_ONE = 16  # one connection in so many posts its events one by one

COUNTS = """
SELECT coalesce(sum(next_offset), 0)::bigint AS read, coalesce(sum(stored), 0)::bigint AS stored,
       coalesce(sum(duplicates), 0)::bigint AS duplicates, coalesce(sum(malformed), 0)::bigint AS malformed
FROM read.checkpoints
"""


@dataclass(frozen=True)
class DemoOptions:
    """The size of the day and how it is sent."""

    events: int = 20_000
    users: int = 500
    seed: int = 1
    connections: int = 32
    invalid: int = 200  # bodies that must be rejected
    duplicates: int = 200  # records of accepted events, produced once more
    broken: int = 50  # records that are no events


@dataclass
class Account:
    """What happened, counted from outside. Times in seconds; ids as text."""

    sent: int = 0
    batches: int = 0
    batched: int = 0  # events that were sent in them
    rejected: int = 0
    surprises: list[str] = field(default_factory=list)
    accepted: dict[str, bytes] = field(default_factory=dict)  # event id -> event as the 201 showed it
    post_seconds: list[float] = field(default_factory=list)
    visible_seconds: list[float] = field(default_factory=list)
    posting_took: float = 0.0
    projecting_took: float = 0.0
    projected: int = 0
    duplicates: int = 0
    malformed: int = 0
    missing: list[str] = field(default_factory=list)
    phantoms: list[str] = field(default_factory=list)
    rows: list[bytes] = field(default_factory=list)

    def exact(self) -> bool:
        """Whether accepted = projected, event by event."""
        return not (self.missing or self.phantoms or self.surprises) and self.projected == len(self.accepted) > 0


async def run_demo(running: Running, options: DemoOptions, progress: Progress) -> Account:
    """Runs the whole demo against `running` and returns the account."""
    account = Account()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(running.front, connector=connector) as http:
        database = await asyncpg.connect(running.stack.query_url)
        try:
            await live_through_the_day(http, database, running, options, progress, account)
            await compare(http, account)
        finally:
            await database.close()
    return account


async def live_through_the_day(
    http: aiohttp.ClientSession,
    database: asyncpg.Connection,
    running: Running,
    options: DemoOptions,
    progress: Progress,
    account: Account,
) -> None:
    """Posts and disturbs while a watcher follows the projector; ends when everything sent has been read."""
    before = dict(await database.fetchrow(COUNTS) or {})
    account.phantoms = [event_id for event_id, _ in await all_events(http)]  # not ours: see `compare`
    total = options.events + options.duplicates + options.broken
    posting = progress.add_task("posting", total=options.events + options.invalid)
    projecting = progress.add_task("projecting", total=total)
    started = time.perf_counter()
    watcher = asyncio.create_task(watch(database, before, total, progress, projecting))
    posted = asyncio.Event()
    sampler = asyncio.create_task(sample_visibility(http, account, posted))
    await post_all(http, options, account, progress, posting)
    posted.set()
    account.posting_took = time.perf_counter() - started
    await produce_disturbances(running.stack.kafka_bootstrap, options, list(account.accepted.values()))
    after = await watcher
    account.projecting_took = time.perf_counter() - started
    await sampler
    account.projected = after["stored"] - before["stored"]
    account.duplicates = after["duplicates"] - before["duplicates"]
    account.malformed = after["malformed"] - before["malformed"]


async def post_all(
    http: aiohttp.ClientSession, options: DemoOptions, account: Account, progress: Progress, bar: TaskID
) -> None:
    """Posts the day over `connections` at once."""
    rng = random.Random(options.seed)  # noqa: S311 - repeatable on purpose
    lanes: list[list[bytes]] = [[] for _ in range(options.connections)]
    lane_of: dict[str, list[bytes]] = {}  # users, dealt in the order in which they come
    for activity in a_day_of_traffic(options.events, options.users, options.seed):
        lane_of.setdefault(activity.user_id, lanes[len(lane_of) % len(lanes)]).append(activity.body)
    singly = max(1, options.connections // ONE_BY_ONE)
    for body in itertools.islice(itertools.cycle(INVALID_BODIES), options.invalid):
        lane = rng.choice(lanes[:singly])
        lane.insert(rng.randint(0, len(lane)), body)

    def advance(count: int) -> None:
        progress.advance(bar, count)

    await asyncio.gather(
        *(post_one_by_one(http, lane, account, advance) for lane in lanes[:singly]),
        *(post_in_batches(http, lane, account, advance) for lane in lanes[singly:]),
    )


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
    http: aiohttp.ClientSession, bodies: Iterable[bytes], account: Account, advance: Callable[[int], None]
) -> None:
    for body in bodies:
        started = time.perf_counter()
        async with http.post("/events/generate", data=body, headers={"Content-Type": "application/json"}) as response:
            answer = await response.read()
        account.sent += 1
        note_answer(account, body, response.status, answer, time.perf_counter() - started)
        advance(1)


class _Accepted(msgspec.Struct):
    event: msgspec.Raw


class _Result(msgspec.Struct):
    status: int
    event: msgspec.Raw


class _Results(msgspec.Struct):
    results: list[_Result]


class _Id(msgspec.Struct, rename="camel"):
    event_id: str


_accepted = msgspec.json.Decoder(_Accepted)
_results = msgspec.json.Decoder(_Results)
_id = msgspec.json.Decoder(_Id)
_array = msgspec.json.Decoder(list[msgspec.Raw])


def note_answer(account: Account, body: bytes, status: int, answer: bytes, seconds: float) -> None:
    """Counts one answer; anything but 201 for a valid and 400 for an invalid body is a surprise."""
    invalid = body in INVALID_BODIES
    if status == 201 and not invalid:
        event = bytes(_accepted.decode(answer).event)
        account.accepted[_id.decode(event).event_id] = event
        account.post_seconds.append(seconds)
    elif status == 400 and invalid:
        account.rejected += 1
    else:
        account.surprises.append(f"{status} for {body[:60]!r}")


def note_batch(account: Account, sent: int, status: int, answer: bytes) -> None:
    """Counts the answer to a batch of valid commands; anything but a 201 for each is a surprise."""
    results = _results.decode(answer).results if status in (201, 207) else []
    for result in results:
        if result.status == 201:
            event = bytes(result.event)
            account.accepted[_id.decode(event).event_id] = event
        else:
            account.surprises.append(f"{result.status} for an event of a batch")
    if len(results) != sent:
        account.surprises.append(f"{status} for a batch of {sent}: {answer[:60]!r}")


async def produce_disturbances(bootstrap: str, options: DemoOptions, accepted: list[bytes]) -> None:
    """What real life brings: records of events that are there already, and bytes that are no events."""
    rng = random.Random(options.seed)  # noqa: S311 - repeatable on purpose
    again = [rng.choice(accepted) for _ in range(options.duplicates)]
    broken = itertools.islice(itertools.cycle(BROKEN_VALUES), options.broken)
    values = [*again, *broken]
    rng.shuffle(values)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True) as producer:
        # Keyed by nothing in particular: a duplicate may come in another partition than the original.
        await asyncio.gather(*[await producer.send(TOPIC, value) for value in values])


async def watch(
    database: asyncpg.Connection, before: dict[str, int], total: int, progress: Progress, bar: TaskID
) -> dict[str, int]:
    """Follows the checkpoints until `total` more records have been read, or nothing moves for `PATIENCE`."""
    moved_at, last = time.monotonic(), -1
    while True:
        now = dict(await database.fetchrow(COUNTS) or {})
        done = now["read"] - before["read"]
        progress.update(bar, completed=min(done, total))
        if done != last:
            moved_at, last = time.monotonic(), done
        if done >= total or time.monotonic() - moved_at > PATIENCE:
            return now
        await asyncio.sleep(LOOK_EVERY)


async def sample_visibility(http: aiohttp.ClientSession, account: Account, posted: asyncio.Event) -> None:
    """For some of the accepted events, the time from the 201 until `GET /events/{id}` finds them."""
    seen = 0
    while len(account.visible_seconds) < VISIBLE_SAMPLES:
        if len(account.accepted) <= seen:
            if posted.is_set():
                return
            await asyncio.sleep(0.005)
            continue
        event_id = next(reversed(account.accepted))
        seen = len(account.accepted)
        account.visible_seconds.append(await until_visible(http, event_id))


async def until_visible(http: aiohttp.ClientSession, event_id: str) -> float:
    """Seconds until the event is found; infinite when it is not found in `GIVE_UP_ON_ONE`."""
    started = time.perf_counter()
    while time.perf_counter() - started < GIVE_UP_ON_ONE:
        async with http.get(f"/events/{event_id}") as response:
            if response.status == 200:
                return time.perf_counter() - started
    return float("inf")


async def compare(http: aiohttp.ClientSession, account: Account) -> None:
    """Event by event: what was accepted against what `GET /events/processed` answers now."""
    before = set(account.phantoms)
    new = [(event_id, event) for event_id, event in await all_events(http) if event_id not in before]
    found = {event_id for event_id, _ in new}
    account.missing = sorted(account.accepted.keys() - found)
    account.phantoms = sorted(found - account.accepted.keys())
    account.rows = [event for _, event in new[:3]]


async def all_events(http: aiohttp.ClientSession) -> list[tuple[str, bytes]]:
    """Id and JSON of every event, as the query side answers them."""
    async with http.get("/events/processed") as response:
        response.raise_for_status()
        events = _array.decode(await response.read())
    return [(_id.decode(event).event_id, bytes(event)) for event in events]
