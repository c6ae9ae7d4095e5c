"""However a partition's events are cut into batches, the tables end up the same: as one event at a time makes them.

The folds and their SQL run on a real PostgreSQL; what they must give is told by `OneByOne`, which shares no code with
them.
"""

import asyncio
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.event import DEFAULT_TENANT, EventType, UserEvent
from contracts.versions import encode_event
from projector.projections import PROJECTIONS
from projector.projections.news import news_of
from projector.projections.projection import PLAN_SETTINGS, arguments, ctes, statement
from projector.projections.user_sessions import MAX_PRODUCTS
from projector.rows import EventRow, to_row
from tests.servers import Servers

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
FIRST_MOMENT = datetime(1, 1, 1, tzinfo=UTC)
LAST_MOMENT = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)

TABLES = [table for projection in PROJECTIONS for table in projection.tables]
EACH = [(projection, statement([projection])) for projection in PROJECTIONS]
ALL = statement(PROJECTIONS)

Tables = dict[str, list[tuple[object, ...]]]


# --- what the tables must hold, one event at a time


@dataclass
class OneByOne:
    """The read models by their definitions, for one tenant and partition, in dictionaries."""

    tenant: str
    partition: int
    activity: dict[str, dict[str, Any]] = field(default_factory=dict)
    ended: list[dict[str, Any]] = field(default_factory=list)
    open: dict[str, dict[str, Any]] = field(default_factory=dict)
    views: dict[tuple[datetime, str], list[str]] = field(default_factory=dict)
    acts: dict[tuple[datetime, str], list[str]] = field(default_factory=dict)

    def add(self, event: UserEvent) -> None:
        user, time = event.user_id, event.timestamp
        product = event.payload.get("productId")
        if not isinstance(product, str) or not 1 <= len(product) <= 256 or not unprintable(product).isdisjoint(product):
            product = None
        hour = datetime(time.year, time.month, time.day, time.hour, tzinfo=UTC)
        self.acts.setdefault((hour, event.event_type), []).append(user)
        known = self.activity.setdefault(user, {"times": [], "types": [], "login": None, "state": None, "view": None})
        known["times"].append(time)
        known["types"].append(event.event_type)
        if event.event_type == "PRODUCT_VIEW":
            self.view(event, product, hour)
        else:
            known["state"] = (event.event_type == "LOGIN", time)
            if user in self.open:
                self.ended.append({**self.open.pop(user), "ended": time, "by": event.event_type})
            if event.event_type == "LOGIN":
                known["login"] = time
                self.open[user] = {"user": user, "id": event.event_id, "started": time, "views": 0, "products": []}

    def view(self, event: UserEvent, product: str | None, hour: datetime) -> None:
        session = self.open.get(event.user_id)
        if session is not None:
            session["views"] += 1
            if product is not None and product not in session["products"] and len(session["products"]) <= MAX_PRODUCTS:
                session["products"].append(product)
        if product is not None:
            self.activity[event.user_id]["view"] = (product, event.timestamp)
            self.views.setdefault((hour, product), []).append(event.user_id)

    def tables(self) -> Tables:
        t, p = self.tenant, self.partition
        bits = {"LOGIN": 1, "LOGOUT": 2, "PRODUCT_VIEW": 4}
        types: dict[tuple[datetime, str], int] = {}
        for (hour, kind), users in self.acts.items():
            for user in set(users):
                types[hour, user] = types.get((hour, user), 0) + bits[kind]
        return {
            "user_activity": [
                (
                    *(t, user, p, min(k["times"]), max(k["times"])),
                    *(k["types"].count(kind) for kind in ("LOGIN", "LOGOUT", "PRODUCT_VIEW")),
                    *(k["login"], *(k["state"] or (None, None)), *(k["view"] or (None, None))),
                )
                for user, k in self.activity.items()
            ],
            "user_sessions": [
                (t, s["user"], p, s["id"], s["started"], s["ended"], s["by"], s["views"], s["products"])
                for s in self.ended
            ],
            "user_sessions_open": [
                (t, s["user"], p, s["id"], s["started"], s["views"], s["products"]) for s in self.open.values()
            ],
            "product_views": [
                (t, hour, product, p, len(users), len(set(users))) for (hour, product), users in self.views.items()
            ],
            "activity_hourly": [
                (t, hour, kind, p, len(users), len(set(users))) for (hour, kind), users in self.acts.items()
            ],
            "activity_hourly_users": [(t, hour, user, p, bit) for (hour, user), bit in types.items()],
        }


def unprintable(text: str) -> set[str]:
    """The control characters of the text."""
    return {character for character in text if ord(character) < 32 or 127 <= ord(character) < 160}


def expected(rows: Sequence[EventRow]) -> Tables:
    parts: dict[tuple[str, int], OneByOne] = {}
    for row in rows:
        key = (row.event.tenant_id, row.partition)
        parts.setdefault(key, OneByOne(*key)).add(row.event)
    found: Tables = {}
    for one in parts.values():
        for name, content in one.tables().items():
            found.setdefault(name, []).extend(content)
    return {name: sorted(content, key=repr) for name, content in found.items() if content}


COLUMNS = {
    "user_activity": "tenant_id, user_id, kafka_partition, first_seen, last_seen, logins, logouts, product_views, "
    "last_login_at, logged_in, changed_at, last_product_id, last_product_at",
    "user_sessions": "tenant_id, user_id, kafka_partition, session_id, started_at, ended_at, ended_by, views, products",
    "user_sessions_open": "tenant_id, user_id, kafka_partition, session_id, started_at, views, products",
    "product_views": "tenant_id, hour, product_id, kafka_partition, views, users",
    "activity_hourly": "tenant_id, hour, event_type, kafka_partition, events, users",
    "activity_hourly_users": "tenant_id, hour, user_id, kafka_partition, types",
}


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
                    await apply(self.connection, batch, together=True)
                return [tuple(row) for row in await self.connection.fetch(query)]
            finally:
                await transaction.rollback()

        return self._runner.run(run())


async def apply(connection: asyncpg.Connection, batch: Sequence[EventRow], together: bool) -> None:
    news = news_of(batch)
    if together:
        await connection.execute(ALL, *arguments(PROJECTIONS, news))
    else:
        for projection, sql in EACH:
            await connection.execute(sql, *arguments([projection], news))


async def connect(servers: Servers) -> asyncpg.Connection:
    admin = await asyncpg.connect(servers.admin_url)
    if (
        await admin.fetchval("SELECT to_regclass('read_g1.user_activity')") is None
    ):  # migration 0002 is not in place yet
        for text in proposed_migration():
            await admin.execute(text)
    await admin.close()
    return await asyncpg.connect(servers.projector_url, server_settings={"timezone": "UTC", **PLAN_SETTINGS})


def proposed_migration() -> list[str]:
    spec = importlib.util.spec_from_file_location("proposed", Path("/tmp/proj/0002_projections.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: list[str] = module.statements()
    return found


@pytest.fixture(scope="module")
def database(new_database: Callable[[], Servers]) -> Iterator[Database]:
    with asyncio.Runner() as runner:
        connection = runner.run(connect(new_database()))
        yield Database(runner, connection)
        runner.run(connection.close())


# --- events


class Record(msgspec.Struct):
    topic: str
    partition: int
    offset: int
    value: bytes | None
    timestamp: int = 0
    key: bytes | None = None
    headers: Iterable[tuple[str, bytes]] = ()


def row_of(
    number: int,
    user: str,
    kind: EventType,
    time: datetime,
    payload: dict[str, Any] | None = None,
    partition: int = 0,
    tenant: str = DEFAULT_TENANT,
) -> EventRow:
    event = UserEvent(UUID(int=number + 1), user, kind, time, payload or {}, tenant)
    row = to_row(Record("t", partition, number, encode_event(event)))
    assert isinstance(row, EventRow)
    return row


def batches_of(rows: list[EventRow], cuts: Sequence[int]) -> list[list[EventRow]]:
    borders = sorted({0, len(rows), *(cut % (len(rows) + 1) for cut in cuts)})
    return [rows[begin:end] for begin, end in pairwise(borders)]


products = st.sampled_from(
    ["p-1", "p-2", "p-3", "ü-4", "q,\"{}\\'", "", "a\x1fb", "a\x85b", "x" * 256, "x" * 257, 7, None]
)
payloads = st.one_of(st.just({}), st.builds(lambda product: {"productId": product}, products))
times = st.one_of(
    st.sampled_from([FIRST_MOMENT, LAST_MOMENT, NOON, NOON - timedelta(microseconds=1), NOON + timedelta(hours=1)]),
    st.integers(-7200, 7200).map(lambda seconds: NOON + timedelta(seconds=seconds)),
)
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
    parameters = arguments(PROJECTIONS, news_of(rows))

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
            f"EXPLAIN (FORMAT JSON) {ALL}", *arguments(PROJECTIONS, news_of(rows))
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
