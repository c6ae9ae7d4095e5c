"""Aggregates that a real Valkey keeps: never stale to a query with a position, and gone without harm."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import asyncpg
import httpx
import pytest
from msgspec.msgpack import encode
from pydantic import SecretStr
from structlog.testing import capture_logs
from valkey.asyncio import Valkey

from query_side.activity.kept_answers import Kept, KeptAnswers
from query_side.activity.queries import ProductViews, top_products
from query_side.activity.valkey_cache import PREFIX, ValkeyCache
from query_side.log_positions import read_your_writes
from query_side.log_positions.positions import Position, TenantPositions
from query_side.log_positions.read_your_writes import Asked
from telemetry.health import DependencyState
from tests.conftest import Footfall
from tests.drivers.valkey import RunningValkey, running_valkey
from tests.patience import PATIENCE
from web.tenants.position_tokens import PositionTokens

SINCE, UNTIL = "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"
SPAN = {"from": SINCE, "to": UNTIL}
MINUTE = 60_000  # ms: nothing is too old while a test runs
VIEWS = """
INSERT INTO read_g1.product_views (hour, views, users, kafka_partition, tenant_id, product_id)
VALUES ('2026-03-01T12:00Z', $2, 1, 0, $1, 'p-1')
ON CONFLICT (tenant_id, hour, product_id, kafka_partition) DO UPDATE SET views = $2
"""
CHECKPOINT = """
INSERT INTO read_g1.checkpoints (topic, partition, next_offset, epoch, owner) VALUES ($1, 0, $2, 0, '')
ON CONFLICT (topic, partition) DO UPDATE SET next_offset = $2
"""


class World:
    """What a projector would write, and a query side's answers."""

    def __init__(self, footfall: Footfall, owner: asyncpg.Connection, reader: asyncpg.Connection, url: str) -> None:
        self.footfall, self.owner, self.reader = footfall, owner, reader
        self.cache = ValkeyCache(SecretStr(url), MINUTE, PATIENCE)
        self.kept = KeptAnswers(self.cache, footfall.topic)

    async def project(self, views: int, next_offset: int, tenant: str = "default") -> None:
        """So many views are stored, and the checkpoint stands there."""
        await self.owner.execute(VIEWS, tenant, views)
        await self.owner.execute(CHECKPOINT, self.footfall.topic, next_offset)

    async def views(self, tenant: str = "default") -> int:
        """What a query answers."""
        return await self.asked(lambda: top_products(self.reader, tenant, since, until, 10), tenant)

    async def asked(self, compute: Callable[[], Awaitable[list[ProductViews]]], tenant: str = "default") -> int:
        question = ("top products", since, until, 10)
        found = await self.kept.of(self.reader, tenant, question, list[ProductViews], compute)
        return found[0].views if found else 0


since, until = datetime.fromisoformat(SINCE), datetime.fromisoformat(UNTIL)


@contextmanager
def position(offset: int) -> Iterator[None]:
    """A request that names a position of partition 0."""
    asked = Asked(TenantPositions(PositionTokens(""), "default"), [Position(0, offset)])
    token = read_your_writes._asked.set(asked)
    yield
    read_your_writes._asked.reset(token)


@pytest.fixture(scope="module")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningValkey]:
    async with running_valkey(tmp_path_factory.mktemp("valkey")) as running:
        yield running


RESET = """
DELETE FROM read_g1.product_views; DELETE FROM read_g1.checkpoints; DELETE FROM ops.late_events;
DELETE FROM ops.generations WHERE name <> 'read_g1'; UPDATE ops.generations SET state = 'active'
"""


@pytest.fixture
async def world(shared_footfall: Footfall, valkey: RunningValkey) -> AsyncIterator[World]:
    servers = shared_footfall.servers
    owner, reader = await asyncpg.connect(servers.admin_url), await asyncpg.connect(servers.query_url)
    made = World(shared_footfall, owner, reader, valkey.url)
    yield made
    await made.cache.close()
    await owner.execute(RESET)
    async with Valkey.from_url(valkey.url) as client:
        await client.flushall()
    await owner.close()
    await reader.close()


async def test_a_kept_answer_has_seen_the_position_that_a_query_names(world: World) -> None:
    await world.project(1, 5)
    assert await world.views() == 1
    await world.project(2, 8)
    assert await world.views() == 1, "young enough"
    with position(4):
        assert await world.views() == 1, "it has seen 4"
    with position(5):
        assert await world.views() == 2
    assert await world.views() == 2, "what is newer takes the place of what was kept"


async def test_a_late_event_behind_a_position_is_seen_with_it(world: World) -> None:
    await world.project(1, 5)
    assert await world.views() == 1
    await world.owner.execute(VIEWS, "default", 2)
    late = "INSERT INTO ops.late_events (number, kafka_offset, partition, topic) VALUES (1, 3, 0, $1)"
    await world.owner.execute(late, world.footfall.topic)
    assert await world.views() == 1
    with position(3):
        assert await world.views() == 2


async def test_nobody_gets_what_belongs_to_another_tenant_generation_or_state_of_the_database(world: World) -> None:
    await world.project(1, 5)
    await world.project(7, 5, "acme")
    assert [await world.views(), await world.views("acme")] == [1, 7]
    await world.project(2, 3)  # an older copy was restored
    assert await world.views() == 2
    await world.project(3, 3)
    assert await world.views() == 2
    await world.owner.execute("UPDATE ops.generations SET state = 'standby'")
    await world.owner.execute("INSERT INTO ops.generations (name, state) VALUES ('read_g2', 'active')")
    assert await world.views() == 3


async def test_what_somebody_else_wrote_into_valkey_is_no_answer(world: World, valkey: RunningValkey) -> None:
    await world.project(1, 5)
    assert await world.views() == 1
    async with Valkey.from_url(valkey.url) as client:
        assert await world.views("acme") == 0
        mine, theirs = [key async for key in client.scan_iter(match=f"{PREFIX}*")]
        swapped = [await client.get(theirs), await client.get(mine)]
        bodies = (b'[{"product":"p-1"}]', b"[")  # an answer as another release keeps it, and half of one
        others = [
            encode(Kept(key.removeprefix(PREFIX.encode()).decode(), {0: (5, 0)}, body))
            for key, body in zip((mine, theirs), bodies, strict=True)
        ]
        no_text = [value.replace(b"p-1", b"p\xff1").replace(b"[]", b'["\xff"]') for value in reversed(swapped)]
        for values in (
            no_text,
            swapped,
            [b"", b""],
            [b"\x93\xa1\xff\x80\xa0"] * 2,
            [b"rubbish", b"\x93\xa1k\x80\xa2[]"],
            others,
        ):
            for key, value in zip((mine, theirs), values, strict=True):
                await client.set(key, value, px=MINUTE)
            assert [await world.views(), await world.views("acme")] == [1, 0]


@pytest.mark.parametrize(("ending", "computed"), [("client gone", 2), ("failed", 4)])
async def test_many_who_ask_at_once_are_one_query_unless_it_fails(world: World, ending: str, computed: int) -> None:
    await world.project(1, 5)
    entered, began, goes_on = asyncio.Event(), 0, asyncio.Event()

    async def compute() -> list[ProductViews]:
        nonlocal began
        began += 1
        is_first = began == 1
        entered.set()
        await goes_on.wait()
        if is_first and ending == "failed":
            raise asyncpg.QueryCanceledError
        return [ProductViews("p-1", 1)]

    connections = [await asyncpg.connect(world.footfall.servers.query_url) for _ in range(4)]

    async def ask(connection: asyncpg.Connection) -> list[ProductViews]:
        return await world.kept.of(connection, "default", ("q",), list[ProductViews], compute)

    first = asyncio.create_task(ask(connections[0]))
    await entered.wait()
    others = [asyncio.create_task(ask(each)) for each in connections[1:]]
    await joined(world, 3)
    if ending == "client gone":
        entered.clear()
        first.cancel()
        await entered.wait()
        await joined(world, 2)
    goes_on.set()
    assert await asyncio.gather(*others) == [[ProductViews("p-1", 1)]] * 3
    assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], BaseException)
    assert await ask(connections[0]) == [ProductViews("p-1", 1)], "kept"
    assert began == computed
    for each in connections:
        await each.close()


async def joined(world: World, count: int) -> None:
    """Returns once so many wait for the answer that is being computed."""
    [flight] = world.kept._flights.values()
    async with asyncio.timeout(PATIENCE):
        while len(flight.done._waiters) < count:  # noqa: ASYNC110 - nothing tells when
            await asyncio.sleep(0.01)


async def test_one_request_in_a_while_waits_for_a_frozen_valkey(valkey: RunningValkey) -> None:
    cache = ValkeyCache(SecretStr(valkey.url), MINUTE, timeout=0.3)

    async def seconds() -> float:
        began = time.monotonic()
        assert await cache.get("key") is None
        return time.monotonic() - began

    valkey.freeze()
    try:
        assert min(await asyncio.gather(*(seconds() for _ in range(4)))) > 0.29
        cache._reads._until = 0.0  # it has rested
        waited = await asyncio.gather(*(seconds() for _ in range(20)))
        assert sorted(waited)[-2] < 0.29 < max(waited)
        assert "PostgreSQL answers: TimeoutError" in (await cache.state()).detail
    finally:
        valkey.thaw()
    cache._reads._until = cache._writes._until = 0.0
    await cache.put("key", b"kept", 0.0)
    assert await cache.get("key") == b"kept"
    assert await cache.state() == DependencyState(ok=True)
    await cache.close()


@pytest.mark.parametrize("fault", ["full", "replica"])
async def test_a_valkey_that_takes_nothing_answers_what_it_has_and_is_logged_once(
    valkey: RunningValkey, fault: str
) -> None:
    cache = ValkeyCache(SecretStr(valkey.url), MINUTE, PATIENCE)
    await cache.put("key", b"kept", 0.0)
    with capture_logs() as logs:
        async with Valkey.from_url(valkey.url) as operator:
            await set_fault(operator, fault, is_there=True)
            for _ in range(5):
                await cache.put("other", b"lost", 0.0)
                assert await cache.get("key") == b"kept"
                cache._writes._until = 0.0  # it has rested
            assert "no further answer is kept" in (await cache.state()).detail
            await set_fault(operator, fault, is_there=False)
    assert [line["event"] for line in logs] == ["cache_away"]
    await cache.put("other", b"kept, too", 0.0)
    assert await cache.get("other") == b"kept, too"
    assert await cache.state() == DependencyState(ok=True)
    await cache.close()


async def set_fault(operator: Valkey, fault: str, *, is_there: bool) -> None:
    if fault == "full":
        await operator.config_set("maxmemory", "1" if is_there else "0")
    else:
        await operator.execute_command("REPLICAOF", *(("127.0.0.1", "1") if is_there else ("NO", "ONE")))  # type: ignore[no-untyped-call]


async def test_over_http_postgresql_answers_while_valkey_is_away(world: World, valkey: RunningValkey) -> None:
    side = world.footfall.start("query-side", CACHE_URL=valkey.url, CACHE_MAX_AGE_MS=str(MINUTE))
    async with httpx.AsyncClient(base_url=side.url, timeout=PATIENCE) as client:

        async def views(**headers: str) -> int:
            answer = await client.get("/products/top", params=SPAN, headers=headers)
            assert answer.status_code == 200, answer.text
            return int(answer.json()["products"][0]["views"])

        async def told(outcome: str) -> bool:
            await views()
            return f'kept_answers_total{{outcome="{outcome}"}}' in (await client.get("/metrics")).text

        await world.project(1, 5)
        async with asyncio.timeout(PATIENCE):  # on a slow machine Valkey may seem to be away at first
            while not await told("kept"):
                pass
        await world.project(2, 6)
        assert await views(**{"footfall-position": "0-5"}) == 2
        hours = [(await client.get("/activity/hourly", params=SPAN)).json()["hours"] for _ in range(2)]
        assert hours == [[], []]
        valkey.stop()
        await world.project(3, 7)
        assert await views() == 3
        assert await told("away")
        ready = (await client.get("/health/ready")).json()
        assert ready["dependencies"]["kept answers"]["ok"]
        assert "PostgreSQL answers" in ready["dependencies"]["kept answers"]["detail"]
    assert "cache_away" in side.log_text()
    await valkey.start()
