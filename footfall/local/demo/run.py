"""Runs the demo: posts a day of traffic, disturbs it, waits until all is projected, and accounts for every event.

Events of most users are posted in batches, as a backend would; events of some users one by one, as devices would. The
latencies in the report are those of the single posts: beside the batches, which is under load, and afterwards, at rest.
All events of a user are posted over one connection, so they stay in order.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterable
from functools import partial

import aiohttp
import asyncpg
import msgspec
from aiokafka import AIOKafkaProducer
from rich.progress import Progress, TaskID

from contracts.record import TOPIC
from footfall.local.demo.account import Account, DemoOptions, event_id_of
from footfall.local.demo.posting import plan, post_all, post_one_by_one
from footfall.local.demo.traffic import BROKEN_VALUES
from footfall.local.running import Running

PATIENCE = 60.0  # seconds without progress after which the demo no longer waits for missing events
POLL_INTERVAL = 0.1  # seconds between two reads of the checkpoints
VISIBLE_SAMPLES = 300  # events whose time to visibility is measured
VISIBLE_TIMEOUT = 30.0  # seconds for one event to become visible
LOOK_INTERVAL = 0.005  # seconds between two looks for an event; at rest, without pause. Looks take the CPU of the posts

_array = msgspec.json.Decoder(list[msgspec.Raw])

COUNTS = """
SELECT coalesce(sum(next_offset), 0)::bigint AS read, coalesce(sum(stored), 0)::bigint AS stored,
       coalesce(sum(duplicates), 0)::bigint AS duplicates, coalesce(sum(malformed), 0)::bigint AS malformed
FROM read.checkpoints
"""


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
    lanes, last = plan(options)
    started = time.perf_counter()
    watcher = asyncio.create_task(watch(database, before, total - len(last), progress, projecting))
    posted = asyncio.Event()
    sampler = asyncio.create_task(sample_visibility(http, account, posted))
    await post_all(http, lanes, account, partial(progress.advance, posting))
    posted.set()
    account.posting_took = time.perf_counter() - started
    account.accepted_under_load = len(account.accepted)
    await produce_disturbances(running.stack.kafka_bootstrap, options, list(account.accepted.values()))
    account.projected_under_load = (await watcher)["stored"] - before["stored"]
    account.projecting_took = time.perf_counter() - started
    await sampler
    await post_at_rest(http, last, account, partial(progress.advance, posting))
    after = await watch(database, before, total, progress, projecting)
    account.projected = after["stored"] - before["stored"]
    account.duplicates = after["duplicates"] - before["duplicates"]
    account.malformed = after["malformed"] - before["malformed"]


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
        account.visible_seconds.append(await until_visible(http, event_id, LOOK_INTERVAL))


async def post_at_rest(
    http: aiohttp.ClientSession, bodies: Iterable[bytes], account: Account, advance: Callable[[int], None]
) -> None:
    """Posts each event when the one before is visible, and nothing else happens."""
    for body in bodies:
        known = len(account.accepted)
        await post_one_by_one(http, [body], account, account.post_at_rest, advance)
        if len(account.accepted) > known:
            account.visible_at_rest.append(await until_visible(http, next(reversed(account.accepted))))


async def until_visible(http: aiohttp.ClientSession, event_id: str, interval: float = 0.0) -> float:
    """Returns the seconds until the event is found; infinite if it is not found within `VISIBLE_TIMEOUT`.

    Args:
        http: the client of the running Footfall.
        event_id: the id of an accepted event.
        interval: seconds between two looks.
    """
    started = time.perf_counter()
    while time.perf_counter() - started < VISIBLE_TIMEOUT:
        async with http.get(f"/events/{event_id}") as response:
            if response.status == 200:
                return time.perf_counter() - started
        await asyncio.sleep(interval)
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
    return [(event_id_of(event), bytes(event)) for event in events]
