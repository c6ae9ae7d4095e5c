"""Runs the demo: posts a day of traffic, disturbs it, waits until all is projected, and accounts for every event.

Events of most users are posted in batches, as a backend would; events of some users one by one, as devices would. The
latencies in the report are those of the single posts. All events of a user are posted over one connection, so they stay
in order.
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

PATIENCE = 60.0  # seconds without progress after which the demo no longer waits for missing events
POLL_INTERVAL = 0.1  # seconds between two reads of the checkpoints
VISIBLE_SAMPLES = 300  # events whose time to visibility is measured
VISIBLE_TIMEOUT = 30.0  # seconds for one event to become visible
BATCH = 100  # events in one batch
ONE_BY_ONE = 16  # one in this many connections posts its events one by one

COUNTS = """
SELECT coalesce(sum(next_offset), 0)::bigint AS read, coalesce(sum(stored), 0)::bigint AS stored,
       coalesce(sum(duplicates), 0)::bigint AS duplicates, coalesce(sum(malformed), 0)::bigint AS malformed
FROM read.checkpoints
"""


@dataclass(frozen=True)
class DemoOptions:
    """How many events to post, and how."""

    events: int = 20_000
    users: int = 500
    seed: int = 1
    connections: int = 32
    invalid: int = 200  # bodies that must be rejected
    duplicates: int = 200  # records of accepted events, produced once more
    broken: int = 50  # records that are not events


@dataclass
class Account:
    """What the demo sent, and what it found afterwards. Times in seconds; ids as text.

    `surprises`: answers that were not expected. `phantoms`: events that are stored but were not accepted here.
    """

    sent: int = 0
    batches: int = 0
    batched: int = 0  # events sent in batches
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
        """Whether exactly the accepted events were projected, and no answer was unexpected."""
        return not (self.missing or self.phantoms or self.surprises) and self.projected == len(self.accepted) > 0


async def run_demo(running: Running, options: DemoOptions, progress: Progress) -> Account:
    """Runs the whole demo against a running Footfall and returns its account."""
    account = Account()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(running.front, connector=connector) as http:
        database = await asyncpg.connect(running.stack.query_url)
        try:
            await post_and_project(http, database, running, options, progress, account)
            await compare(http, account)
        finally:
            await database.close()
    return account


async def post_and_project(
    http: aiohttp.ClientSession,
    database: asyncpg.Connection,
    running: Running,
    options: DemoOptions,
    progress: Progress,
    account: Account,
) -> None:
    """Posts everything and produces the disturbances; returns once the projector has read all of it."""
    before = dict(await database.fetchrow(COUNTS) or {})
    account.phantoms = [event_id for event_id, _ in await all_events(http)]  # earlier events: see `compare`
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
    """Posts all events over `options.connections` connections."""
    rng = random.Random(options.seed)  # noqa: S311 - repeatable on purpose
    lanes: list[list[bytes]] = [[] for _ in range(options.connections)]
    lane_of: dict[str, list[bytes]] = {}  # each new user is assigned to the next lane
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
    """Counts one answer. Any status but 201 for a valid body and 400 for an invalid one is a surprise."""
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
    """Counts the answer to a batch of valid commands. Any status but 201 for each command is a surprise."""
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
    """Produces records of events that are stored already, and records that are not events."""
    rng = random.Random(options.seed)  # noqa: S311 - repeatable on purpose
    again = [rng.choice(accepted) for _ in range(options.duplicates)]
    broken = itertools.islice(itertools.cycle(BROKEN_VALUES), options.broken)
    values = [*again, *broken]
    rng.shuffle(values)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True) as producer:
        # Without a key: a duplicate may be in another partition than the original.
        await asyncio.gather(*[await producer.send(TOPIC, value) for value in values])


async def watch(
    database: asyncpg.Connection, before: dict[str, int], total: int, progress: Progress, bar: TaskID
) -> dict[str, int]:
    """Reads the checkpoints until `total` more records are projected, or nothing moves for `PATIENCE`."""
    moved_at, last = time.monotonic(), -1
    while True:
        now = dict(await database.fetchrow(COUNTS) or {})
        done = now["read"] - before["read"]
        progress.update(bar, completed=min(done, total))
        if done != last:
            moved_at, last = time.monotonic(), done
        if done >= total or time.monotonic() - moved_at > PATIENCE:
            return now
        await asyncio.sleep(POLL_INTERVAL)


async def sample_visibility(http: aiohttp.ClientSession, account: Account, posted: asyncio.Event) -> None:
    """Measures, for some accepted events, the time from the 201 until `GET /events/{id}` finds the event."""
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
    """Returns the seconds until the event is found; infinite if it is not found within `VISIBLE_TIMEOUT`."""
    started = time.perf_counter()
    while time.perf_counter() - started < VISIBLE_TIMEOUT:
        async with http.get(f"/events/{event_id}") as response:
            if response.status == 200:
                return time.perf_counter() - started
    return float("inf")


async def compare(http: aiohttp.ClientSession, account: Account) -> None:
    """Compares the accepted events with the answer of `GET /events/processed`, id by id."""
    before = set(account.phantoms)
    new = [(event_id, event) for event_id, event in await all_events(http) if event_id not in before]
    found = {event_id for event_id, _ in new}
    account.missing = sorted(account.accepted.keys() - found)
    account.phantoms = sorted(found - account.accepted.keys())
    account.rows = [event for _, event in new[:3]]


async def all_events(http: aiohttp.ClientSession) -> list[tuple[str, bytes]]:
    """Returns the id and the JSON of every event that the query side has."""
    async with http.get("/events/processed") as response:
        response.raise_for_status()
        events = _array.decode(await response.read())
    return [(_id.decode(event).event_id, bytes(event)) for event in events]
