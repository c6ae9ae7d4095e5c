"""However a partition's events are cut into batches, the tables end up the same: as one event at a time makes them.

The folds and their SQL run on a real PostgreSQL; what they must come to is told by `one_by_one`, which shares no
code with them.
"""

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import asyncpg
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.event import DEFAULT_TENANT
from projector.projections import PROJECTIONS
from projector.projections.event_batch import event_batch_of
from projector.projections.projection import arguments, ctes, statement
from projector.projections.user_sessions import MAX_PRODUCTS
from projector.writing.commit import GenerationWriter
from projector.writing.rows import EventRow
from tests.drivers.projection_events import connect, payloads, times
from tests.projections_one_by_one import COLUMNS, NOON, Tables, expected, row_of
from tests.servers import Servers
from tests.shipped_types import MEANINGS, SHIPPED

TABLES = [table for projection in PROJECTIONS for table in projection.tables]
EACH = [(projection, statement([projection])) for projection in PROJECTIONS]
ALL = statement(PROJECTIONS)

# --- a database, and what is done there


class Database:
    """A connection with the projector's role and settings, for tests that are no coroutines: hypothesis wants that."""

    def __init__(self, runner: asyncio.Runner, connection: asyncpg.Connection) -> None:
        self._runner = runner
        self.connection = connection

    def project(self, batches: Sequence[Sequence[EventRow]], *, together: bool) -> tuple[Tables, Tables]:
        """The tables, and the remaining text of each, after these batches; nothing of it stays."""
        return self._runner.run(self._project(batches, together))

    async def _project(self, batches: Sequence[Sequence[EventRow]], together: bool) -> tuple[Tables, Tables]:
        transaction = self.connection.transaction()
        await transaction.start()
        try:
            for batch in batches:
                await apply(self.connection, batch, together)
            return await self._known(), await self._everything()
        finally:
            await transaction.rollback()

    async def _known(self) -> Tables:
        found = {}
        for table, columns in COLUMNS.items():
            rows = await self.connection.fetch(f"SELECT {columns} FROM read_g1.{table}")
            found[table] = sorted(map(tuple, rows), key=repr)
        return {name: rows for name, rows in found.items() if rows}

    async def _everything(self) -> Tables:
        return {
            table: [
                tuple(row) for row in await self.connection.fetch(f"SELECT t::text FROM read_g1.{table} t ORDER BY 1")
            ]
            for table in TABLES
        }

    def fetch(self, batches: Sequence[Sequence[EventRow]], query: str) -> list[tuple[object, ...]]:
        """What the query answers after these batches; nothing of them stays."""

        async def run() -> list[tuple[object, ...]]:
            transaction = self.connection.transaction()
            await transaction.start()
            try:
                for batch in batches:
                    await GenerationWriter("read_g1", SHIPPED).apply(self.connection, batch)
                return [tuple(row) for row in await self.connection.fetch(query)]
            finally:
                await transaction.rollback()

        return self._runner.run(run())


async def apply(connection: asyncpg.Connection, batch: Sequence[EventRow], together: bool) -> None:
    events = event_batch_of(batch, MEANINGS)
    if together:
        await connection.execute(ALL, *arguments(PROJECTIONS, events))
    else:
        for projection, sql in EACH:
            await connection.execute(sql, *arguments([projection], events))


@pytest.fixture(scope="module")
def database(new_database: Callable[[], Servers]) -> Iterator[Database]:
    with asyncio.Runner() as runner:
        connection = runner.run(connect(new_database()))
        yield Database(runner, connection)
        runner.run(connection.close())


# --- events


def batches_of(rows: list[EventRow], cuts: Sequence[int]) -> list[list[EventRow]]:
    borders = sorted({0, len(rows), *(cut % (len(rows) + 1) for cut in cuts)})
    return [rows[begin:end] for begin, end in pairwise(borders)]


acts = st.tuples(
    st.sampled_from(["anna", "bert", "çelik"]),
    st.sampled_from(["LOGIN", "LOGOUT", "PRODUCT_VIEW", "PRODUCT_VIEW"]),
    times,
    payloads,
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([DEFAULT_TENANT, DEFAULT_TENANT, "acme"]),
)
histories = st.lists(acts, min_size=1, max_size=30).map(
    lambda found: [row_of(number, *act) for number, act in enumerate(found)]
)
cuts = st.lists(st.integers(0, 30), max_size=6)


# --- tests


@settings(max_examples=300 if os.environ.get("FOOTFALL_LONG") else 40)
@given(rows=histories, cut=cuts, other_cut=cuts)
def test_any_cut_gives_the_rows_of_one_event_at_a_time(
    database: Database, rows: list[EventRow], cut: list[int], other_cut: list[int]
) -> None:
    known, everything = database.project(batches_of(rows, cut), together=False)
    assert known == expected(rows)
    assert database.project(batches_of(rows, other_cut), together=True) == (known, everything)


@pytest.mark.parametrize("size", [1, 7, 40, 199, 200, 201, 202, 1000])
def test_a_session_keeps_its_first_products_however_it_is_cut(database: Database, size: int) -> None:
    seen = [*range(150), *range(140, 190), 3, *range(180, 260), 250]
    rows = [row_of(0, "anna", "LOGIN", NOON)]
    rows += [row_of(n, "anna", "PRODUCT_VIEW", NOON, {"productId": f"p-{p}"}) for n, p in enumerate(seen, 1)]
    rows += [row_of(len(rows), "anna", "LOGOUT", NOON)]
    for ended in (False, True):
        part = rows if ended else rows[:-1]
        known, _ = database.project(batches_of(part, range(0, len(part), size)), together=True)
        assert known == expected(part)
        batches = batches_of(part, range(0, len(part), size))
        shown = database.fetch(batches, "SELECT views, cardinality(products), more_products FROM read.user_sessions")
        assert shown == [(len(seen), MAX_PRODUCTS, True)]


def test_views_add_the_partitions_up(database: Database) -> None:
    rows = [
        row_of(0, "anna", "LOGIN", NOON, partition=0),
        row_of(1, "anna", "PRODUCT_VIEW", NOON + timedelta(minutes=1), {"productId": "p-1"}, partition=0),
        row_of(2, "bert", "PRODUCT_VIEW", NOON + timedelta(minutes=2), {"productId": "p-1"}, partition=1),
        row_of(3, "bert", "PRODUCT_VIEW", NOON + timedelta(minutes=3), {"productId": "p-1"}, partition=1),
        row_of(4, "anna", "LOGOUT", NOON + timedelta(minutes=4), partition=0),
        row_of(5, "bert", "LOGIN", NOON + timedelta(minutes=5), partition=1),
        # A producer with another partitioner:
        row_of(6, "anna", "LOGIN", NOON + timedelta(minutes=9), partition=1),
    ]
    batches = [rows[:3], rows[3:]]
    assert database.fetch(batches, "SELECT product_id, views, distinct_users FROM read.product_views") == [
        ("p-1", 3, 2)
    ]
    assert database.fetch(
        batches, "SELECT event_type, events, distinct_users FROM read.activity_hourly ORDER BY event_type"
    ) == [("LOGIN", 3, 3), ("LOGOUT", 1, 1), ("PRODUCT_VIEW", 3, 2)]
    activity = "SELECT user_id, logins, logouts, product_views, first_seen, last_seen, last_login_at, logged_in"
    assert database.fetch(batches, f"{activity}, last_product_id FROM read.user_activity ORDER BY user_id") == [
        ("anna", 2, 1, 1, NOON, NOON + timedelta(minutes=9), NOON + timedelta(minutes=9), True, "p-1"),
        ("bert", 1, 0, 2, NOON + timedelta(minutes=2), *[NOON + timedelta(minutes=5)] * 2, True, "p-1"),
    ]
    sessions = "SELECT user_id, ended_by, duration, views, products, more_products FROM read.user_sessions"
    assert database.fetch(batches, f"{sessions} ORDER BY user_id, started_at") == [
        ("anna", "LOGOUT", timedelta(minutes=4), 1, ["p-1"], False),
        ("anna", None, None, 0, [], False),
        ("bert", None, None, 0, [], False),
    ]


def test_nothing_is_written_unless_the_guard_holds(database: Database) -> None:
    rows = [row_of(0, "anna", "LOGIN", NOON), row_of(1, "bert", "PRODUCT_VIEW", NOON, {"productId": "p-1"})]
    parameters = arguments(PROJECTIONS, event_batch_of(rows, MEANINGS))

    async def written(guard: bool) -> int:
        transaction = database.connection.transaction()
        await transaction.start()
        sql = f"WITH {ctes(PROJECTIONS, first=2, guard='$1::bool')} SELECT"
        await database.connection.execute(sql, guard, *parameters)
        counts = [await database.connection.fetchval(f"SELECT count(*) FROM read_g1.{table}") for table in TABLES]
        await transaction.rollback()
        return sum(counts)

    assert database._runner.run(written(False)) == 0
    assert database._runner.run(written(True)) == 9


@pytest.mark.parametrize("events", [1, 3000])
def test_each_change_row_costs_one_index_lookup(database: Database, events: int) -> None:
    """Plans are those of a table that looks empty, and stay good: no scan of a stored table, no join of two changes."""
    rows = [row_of(n, f"u-{n % 500}", "PRODUCT_VIEW", NOON, {"productId": f"p-{n % 77}"}) for n in range(events)]

    async def nodes() -> list[dict[str, Any]]:
        transaction = database.connection.transaction()
        await transaction.start()
        text = await database.connection.fetchval(
            f"EXPLAIN (FORMAT JSON) {ALL}", *arguments(PROJECTIONS, event_batch_of(rows, MEANINGS))
        )
        await transaction.rollback()
        return list(walk(msgspec.json.decode(text)[0]["Plan"]))

    found = database._runner.run(nodes())
    stored = [node for node in found if node.get("Relation Name") in TABLES and node["Node Type"] != "ModifyTable"]
    assert {node["Node Type"] for node in stored} <= {"Index Scan", "Index Only Scan"}
    for join in (node for node in found if node["Node Type"] in {"Nested Loop", "Hash Join", "Merge Join"}):
        assert join["Node Type"] == "Nested Loop"
        scans = [node for part in join["Plans"] for node in walk(part) if "CTE Name" in node]
        assert len({node["CTE Name"] for node in scans}) <= 2


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from walk(child)
