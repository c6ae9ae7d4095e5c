"""Schema `reporting` on events that came the whole way: exact numbers, documented answers, a promotion, DuckDB."""

import asyncio
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import duckdb
import pytest
from click.testing import CliRunner

from contracts.event import DEFAULT_TENANT, UserEvent
from footfall.cli.main import cli
from operations.reporters import grant
from read_model.tables.reporting import VIEWS
from tests.conftest import Footfall
from tests.processes import run_to_end
from tests.producing import produce, sql, start_projector, wait_until_processed
from tests.reporting_history import SPREAD, a_history, records_of_history
from tests.reporting_oracle import Rows, reports

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "sql.md"
REPORTER, PASSWORD = "footfall_test_reporter", "not-a-secret-here"
QUESTION = re.compile(r"^### (\d+)\. (.+?)\n\n```sql\n(.+?);\n```\n\n```\n(.*?)```$", re.MULTILINE | re.DOTALL)
QUESTIONS = QUESTION.findall(PAGE.read_text())


@dataclass(frozen=True)
class Shop:
    """The history, projected; `url` is a reporter's."""

    footfall: Footfall
    history: list[UserEvent]
    url: str


@pytest.fixture(scope="module")
def shop(new_footfall: Callable[..., Footfall]) -> Iterator[Shop]:
    footfall, history = new_footfall(partitions=4), a_history()
    produce(footfall, records_of_history(history, 4))
    start_projector(footfall)
    wait_until_processed(footfall, len(history))
    asyncio.run(grant(footfall.servers.admin_url, REPORTER, PASSWORD))
    parts = urlsplit(footfall.servers.admin_url)
    at = parts.netloc.rpartition("@")[2]
    yield Shop(footfall, history, urlunsplit(parts._replace(netloc=f"{REPORTER}:{PASSWORD}@{at}")))
    footfall.close()


def fetched(url: str, *statements: str, time_zone: str = "UTC") -> list[list[asyncpg.Record]]:
    """The rows of each statement, asked as the URL's role."""

    async def fetch() -> list[list[asyncpg.Record]]:
        connection = await asyncpg.connect(url, server_settings={"timezone": time_zone})
        try:
            return [await connection.fetch(statement) for statement in statements]
        finally:
            await connection.close()

    return asyncio.run(fetch())


def as_set(rows: list[asyncpg.Record]) -> Rows:
    found = {tuple(row) for row in rows}
    assert len(found) == len(rows), "a row came twice"
    return found


def columns_of(view: str) -> str:
    return ", ".join(column.name for column in VIEWS[view].columns if column.name != "products")


@pytest.mark.parametrize("time_zone", ["UTC", "Pacific/Auckland"])
def test_every_view_shows_what_the_events_say_in_any_time_zone(shop: Shop, time_zone: str) -> None:
    expected = reports(shop.history)
    assert expected.keys() == VIEWS.keys() - {"events"}
    statements = [f"SELECT {columns_of(view)} FROM reporting.{view}" for view in expected]
    for view, rows in zip(expected, fetched(shop.url, *statements, time_zone=time_zone), strict=True):
        assert as_set(rows) == expected[view], view
        assert rows


def test_events_are_the_default_tenants_one_by_one(shop: Shop) -> None:
    def row_of(event: UserEvent) -> tuple[Any, ...]:
        product = event.payload.get("productId")
        product = product if isinstance(product, str) else None
        return (event.event_id, event.user_id, event.event_type, event.timestamp, event.timestamp.date(), product)

    columns = "event_id, user_id, event_type, occurred_at, day, product_id"
    (rows,) = fetched(shop.url, f"SELECT {columns} FROM reporting.events")
    assert as_set(rows) == {row_of(event) for event in shop.history if event.tenant_id == DEFAULT_TENANT}


def test_the_history_has_what_could_be_counted_wrongly(shop: Shop) -> None:
    weeks, spread, late, tenants = fetched(
        shop.url,
        "SELECT iso_week FROM reporting.active_users_weekly",
        f"SELECT users, new_users FROM reporting.active_users_daily WHERE day = '2027-01-01' AND '{SPREAD}' IN "
        "(SELECT user_id FROM reporting.users)",
        "SELECT count(*) AS n FROM reporting.users WHERE first_seen < '2026-12-07'",
        "SELECT 1 WHERE EXISTS (SELECT FROM reporting.retention_weekly WHERE week_number > 3)",
    )
    assert {"2026-W53", "2027-W01"} <= {row["iso_week"] for row in weeks}
    assert spread
    assert late[0]["n"] > 0
    assert tenants
    partitions = sql(
        shop.footfall.servers,
        f"SELECT count(DISTINCT kafka_partition) AS n FROM read.processed_events WHERE user_id = '{SPREAD}'",
    )
    assert partitions[0]["n"] == 3


def footfall_sql(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return run_to_end("sql", *arguments, environment={"REPORTING_DATABASE_URL": url, "PAGER": "cat"})


def test_the_page_answers_twelve_questions_with_what_psql_prints(shop: Shop) -> None:
    assert [number for number, *_ in QUESTIONS] == [str(number) for number in range(1, 13)]
    commands = [text for _, _, statement, _ in QUESTIONS for text in ("-c", statement, "-c", r"\echo @@@")]
    run = footfall_sql(shop.url, *commands)
    assert run.returncode == 0, run.stderr
    answers = [answer.strip("\n") for answer in run.stdout.split("@@@\n")[:-1]]
    for (_, question, _, written), answer in zip(QUESTIONS, answers, strict=True):
        said = "\n".join(line.rstrip() for line in answer.splitlines())
        assert said == written.strip("\n"), f"docs/sql.md, {question!r}: psql prints now\n{said}"


def test_the_page_describes_every_view_and_column() -> None:
    text = PAGE.read_text()
    for name, view in VIEWS.items():
        assert f"#### `{name}`\n\n{view.comment}\n" in text, name
        for column in view.columns:
            assert f"| `{column.name}` | {column.type} | {column.comment} |" in text, f"{name}.{column.name}"
    assert set(re.findall(r"^#### `(\w+)`$", text, re.MULTILINE)) == VIEWS.keys()


def rebuild(shop: Shop, *arguments: str) -> None:
    role = {"ENVIRONMENT": "test", "DATABASE_URL": shop.footfall.servers.admin_url}
    run = CliRunner().invoke(cli, ["rebuild", *arguments], env={**role, **shop.footfall.environment()})
    assert run.exit_code == 0, f"{run.output}{run.exception!r}"


def test_views_survive_a_promotion_and_the_end_of_the_old_generation(shop: Shop) -> None:
    async def journey() -> None:
        connection = await asyncpg.connect(shop.url)
        try:
            prepared = {
                view: await connection.prepare(f"SELECT {columns_of(view)} FROM reporting.{view}") for view in VIEWS
            }
            before = {view: as_set(await statement.fetch()) for view, statement in prepared.items()}
            for step in (["start"], ["verify"], ["promote"], ["drop"]):
                await asyncio.to_thread(rebuild, shop, *step)
            after = {view: as_set(await statement.fetch()) for view, statement in prepared.items()}
        finally:
            await connection.close()
        assert {row[:6] for row in after.pop("events")} == {row[:6] for row in before.pop("events")}
        assert after == before

    asyncio.run(journey())
    assert sql(shop.footfall.servers, "SELECT to_regnamespace('read_g1') IS NULL AS gone")[0]["gone"]
    (comments,) = fetched(shop.url, "SELECT obj_description('reporting.users'::regclass) AS comment")
    assert comments[0]["comment"] == VIEWS["users"].comment


def test_duckdb_reads_the_views_and_counts_the_same(shop: Shop) -> None:
    extension = next(Path(str(files("duckdb_extension_postgres_scanner"))).rglob("*.duckdb_extension"))
    with duckdb.connect() as local:
        local.execute(f"LOAD '{extension}'")
        local.execute(f"ATTACH '{shop.url}' AS shop (TYPE postgres, READ_ONLY, SCHEMA 'reporting')")
        listed = local.execute("SELECT table_name FROM duckdb_tables() UNION SELECT view_name FROM duckdb_views()")
        assert {name for (name,) in listed.fetchall()} >= VIEWS.keys()
        kinds = local.execute("SELECT event_type, count(*) FROM shop.events GROUP BY 1 ORDER BY 1").fetchall()
        funnel = local.execute(
            "SELECT sum(sessions), sum(sessions_with_view) FROM shop.login_to_view_funnel"
        ).fetchall()
    expected: dict[str, int] = {}
    for event in shop.history:
        if event.tenant_id == DEFAULT_TENANT:
            expected[event.event_type] = expected.get(event.event_type, 0) + 1
    assert kinds == sorted(expected.items())
    (theirs,) = fetched(
        shop.url, "SELECT sum(sessions)::int, sum(sessions_with_view)::int FROM reporting.login_to_view_funnel"
    )
    assert [tuple(map(int, row)) for row in funnel] == [tuple(theirs[0])]
