"""A user's events in several partitions: their sessions are those of the events merged by time.

What the view must come to is told by `one_by_one`, which shares no code with it.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.event import DEFAULT_TENANT
from projector.projections.user_sessions import MAX_PRODUCTS
from projector.writing.commit import GenerationWriter
from projector.writing.rows import EventRow
from tests.drivers.projection_events import connect, payloads, times
from tests.projections_one_by_one import NOON, OneByOne, row_of
from tests.servers import Servers
from tests.shipped_types import SHIPPED

SESSIONS = """
SELECT tenant_id, user_id, session_id, started_at, ended_at, ended_by, duration, views, products, more_products
FROM read.user_sessions ORDER BY tenant_id, user_id, session_id
"""
OF_ONE = SESSIONS.replace("ORDER", "WHERE tenant_id = 'default' AND user_id = 'anna' ORDER")
Sessions = list[tuple[Any, ...]]


class Database:
    """A connection with the projector's role, for tests that are no coroutines: hypothesis wants that."""

    def __init__(self, runner: asyncio.Runner, connection: asyncpg.Connection) -> None:
        self._runner, self._connection = runner, connection

    def sessions(self, rows: list[EventRow], query: str = SESSIONS) -> Sessions:
        """What the view shows after these rows; nothing of them stays."""
        return self._runner.run(self._sessions(rows, query))

    async def _sessions(self, rows: list[EventRow], query: str) -> Sessions:
        transaction = self._connection.transaction()
        await transaction.start()
        try:
            await GenerationWriter("read_g1", SHIPPED).apply(self._connection, rows)
            return [tuple(row) for row in await self._connection.fetch(query)]
        finally:
            await transaction.rollback()


@pytest.fixture(scope="module")
def database(new_database: Callable[[], Servers]) -> Iterator[Database]:
    with asyncio.Runner() as runner:
        connection = runner.run(connect(new_database()))
        yield Database(runner, connection)
        runner.run(connection.close())


def merged(rows: list[EventRow]) -> list[EventRow]:
    """One user's rows in the order that decides: the log's in each partition, and by time between them."""
    latest: dict[int, datetime] = {}
    keyed = []
    for row in sorted(rows, key=lambda row: row.offset):
        time = max(row.event.timestamp, latest.get(row.partition, row.event.timestamp))
        latest[row.partition] = time
        keyed.append((time, row.partition, row.offset, row))
    return [row for *_, row in sorted(keyed, key=lambda each: each[:3])]


def expected(rows: list[EventRow]) -> Sessions:
    of_user: defaultdict[tuple[str, str], list[EventRow]] = defaultdict(list)
    for row in rows:
        of_user[row.event.tenant_id, row.event.user_id].append(row)
    found: Sessions = []
    for (tenant, user), mine in of_user.items():
        told = OneByOne(tenant, 0)
        for row in merged(mine):
            told.add(row.event)
        for one in [*told.ended, *told.open.values()]:
            ended, by = one.get("ended"), one.get("by")
            duration = None if ended is None else max(timedelta(), ended - one["started"])
            shown = one["products"][:MAX_PRODUCTS], len(one["products"]) > MAX_PRODUCTS
            found.append((tenant, user, one["id"], one["started"], ended, by, duration, one["views"], *shown))
    return sorted(found, key=lambda session: session[:3])


acts = st.tuples(
    st.sampled_from(["anna", "anna", "bert"]),
    st.sampled_from(["LOGIN", "LOGOUT", "PRODUCT_VIEW", "PRODUCT_VIEW"]),
    times,
    payloads,
    st.integers(0, 2),
    st.sampled_from([DEFAULT_TENANT, DEFAULT_TENANT, "acme"]),
)


@settings(max_examples=60)
@given(st.lists(acts, min_size=1, max_size=30))
def test_the_sessions_of_scattered_users_are_those_of_their_events_merged_by_time(
    database: Database, found: list[Any]
) -> None:
    rows = [row_of(number, *act) for number, act in enumerate(found)]
    assert database.sessions(rows) == expected(rows)
    mine = [session for session in expected(rows) if session[:2] == (DEFAULT_TENANT, "anna")]
    assert database.sessions(rows, OF_ONE) == mine


@settings(max_examples=40)
@given(st.lists(st.tuples(acts, st.integers(0, 4)), min_size=1, max_size=30))
def test_scattering_a_user_whose_clock_goes_forward_changes_nothing(database: Database, found: list[Any]) -> None:
    together, scattered = [], []
    for number, ((user, kind, _, payload, _, tenant), partition) in enumerate(found):
        time = NOON + timedelta(seconds=number)
        together.append(row_of(number, user, kind, time, payload, 0, tenant))
        scattered.append(row_of(number, user, kind, time, payload, partition, tenant))
    assert database.sessions(scattered) == database.sessions(together)


@pytest.mark.parametrize("products", [MAX_PRODUCTS, MAX_PRODUCTS + 1, MAX_PRODUCTS + 50])
def test_a_scattered_session_shows_its_first_products(database: Database, products: int) -> None:
    rows = [row_of(0, "anna", "LOGIN", NOON, partition=0)]
    for n in range(1, products + 1):
        time, payload = NOON + timedelta(seconds=n), {"productId": f"p-{n}"}
        rows.append(row_of(n, "anna", "PRODUCT_VIEW", time, payload, partition=n % 3))
    (session,) = database.sessions(rows)
    assert session[-3:] == (products, [f"p-{n}" for n in range(1, MAX_PRODUCTS + 1)], products > MAX_PRODUCTS)
