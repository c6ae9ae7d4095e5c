"""The migrations are the schema's only author, and they say what `read_model/tables/processed_events.py` declares."""

import asyncio
import subprocess
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from operations.settings import MigrateSettings
from operations.setup import migrate
from read_model.generations.schema import create_like
from read_model.names import GENERATION
from read_model.tables.reporting import VIEWS, Column, ReportingView
from tests.drivers.schema_differences import schema_differences
from tests.processes import run_to_end
from tests.servers import Servers


async def tables_of(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT format('%s.%s', table_schema, table_name) AS name FROM information_schema.tables "
        "WHERE table_schema IN ('read', 'read_g1', 'reporting')"
    )
    await connection.close()
    return {row["name"] for row in rows}


def alembic(url: str, *arguments: str) -> str:
    """`alembic` as an operator runs it by hand, from the repository; it must succeed."""
    ended = run_alembic(url, *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def run_alembic(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return run_to_end(*arguments, module="alembic", environment={"DATABASE_URL": url})


def test_migrated_schema_equals_declared_schema(new_database: Callable[[], Servers]) -> None:
    database = new_database()
    assert asyncio.run(schema_differences(database.admin_url)) == []


VIEWS_AS_THEY_ARE = """
SELECT c.relname AS view, obj_description(c.oid, 'pg_class') AS view_comment, a.attname AS name,
       format_type(a.atttypid, a.atttypmod) AS type, col_description(c.oid, a.attnum) AS comment,
       coalesce('security_barrier=true' = ANY (c.reloptions), false) AS barrier
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'reporting'::regnamespace ORDER BY c.relname, a.attnum
"""


async def reporting_views(url: str) -> dict[str, ReportingView]:
    """The views of schema `reporting` as the catalog has them; each is behind a barrier."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(VIEWS_AS_THEY_ARE)
    await connection.close()
    columns: dict[str, list[Column]] = {}
    for row in rows:
        columns.setdefault(row["view"], []).append(Column(row["name"], row["type"], row["comment"]))
        assert row["barrier"], f"a reader's condition could see other tenants' rows of {row['view']}"
    comments = {row["view"]: row["view_comment"] for row in rows}
    return {view: ReportingView(comments[view], tuple(found)) for view, found in columns.items()}


def test_reporting_views_are_as_declared_and_each_has_comments(new_database: Callable[[], Servers]) -> None:
    migrated = asyncio.run(reporting_views(new_database().admin_url))
    assert migrated == VIEWS
    uncommented = [
        f"{name}.{column.name}" for name, view in migrated.items() for column in view.columns if not column.comment
    ]
    assert not uncommented
    assert all(view.comment for view in migrated.values())


def test_the_comparison_notices_a_difference(new_database: Callable[[], Servers]) -> None:
    database = new_database()

    async def plant() -> None:
        connection = await asyncpg.connect(database.admin_url)
        await connection.execute(f"ALTER TABLE {GENERATION}.processed_events ALTER COLUMN user_id DROP NOT NULL")
        await connection.execute("COMMENT ON COLUMN reporting.users.events IS NULL")
        await connection.close()

    asyncio.run(plant())
    assert asyncio.run(schema_differences(database.admin_url)) != []
    assert asyncio.run(reporting_views(database.admin_url)) != VIEWS


# Notes with which durability each step of a migration is committed.
NOTE_DURABILITY = """
CREATE TABLE commits (durability text);
CREATE FUNCTION note_durability() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO commits VALUES (current_setting('synchronous_commit'));
    RETURN NULL;
END $$;
CREATE TRIGGER note_durability AFTER INSERT OR UPDATE ON footfall_migrations
    FOR EACH ROW EXECUTE FUNCTION note_durability();
ALTER DATABASE {database} SET synchronous_commit = off;
"""


def test_a_migration_is_durable_whatever_the_database_says(new_database: Callable[[], Servers]) -> None:
    url = new_database().admin_url
    database = url.rpartition("/")[2]

    async def note() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(NOTE_DURABILITY.format(database=database))
        await connection.close()

    async def noted() -> tuple[str, list[str]]:
        connection = await asyncpg.connect(url)
        default = await connection.fetchval("SHOW synchronous_commit")
        rows = await connection.fetch("SELECT DISTINCT durability FROM commits")
        await connection.close()
        return default, [row["durability"] for row in rows]

    asyncio.run(note())
    alembic(url, "downgrade", "-1")
    migrate(MigrateSettings(database_url=SecretStr(url)))
    assert asyncio.run(noted()) == ("off", ["on"])


def test_downgrade_and_upgrade_round_trip_by_hand(new_database: Callable[[], Servers]) -> None:
    database = new_database()
    before = asyncio.run(tables_of(database.admin_url))
    assert f"{GENERATION}.processed_events" in before
    alembic(database.admin_url, "downgrade", "base")
    assert asyncio.run(tables_of(database.admin_url)) == set()
    alembic(database.admin_url, "upgrade", "head")
    assert asyncio.run(tables_of(database.admin_url)) == before
    assert asyncio.run(schema_differences(database.admin_url)) == []
    assert asyncio.run(reporting_views(database.admin_url)) == VIEWS


AN_EVENT = """
INSERT INTO read_g1.processed_events
SELECT 0, now(), now(), now(), gen_random_uuid(), 0, 't', 'u', 'LOGIN', '{}', '', 'default'
"""


@pytest.mark.parametrize(
    ("planted", "why"),
    [
        (AN_EVENT, "read_g1.processed_events holds rows"),
        ("CREATE SCHEMA read_g2; CREATE TABLE read_g2.processed_events ()", "the generations are read_g1, read_g2"),
        (
            "DROP SCHEMA read_g1 CASCADE; CREATE SCHEMA read_g2; CREATE TABLE read_g2.processed_events ()",
            "the generations are read_g2, and older versions",
        ),
    ],
)
def test_a_downgrade_that_would_lose_something_is_refused_before_it_begins(
    new_database: Callable[[], Servers], planted: str, why: str
) -> None:
    database = new_database()

    async def plant() -> None:
        connection = await asyncpg.connect(database.admin_url)
        await connection.execute(planted)
        await connection.close()

    asyncio.run(plant())
    before = asyncio.run(tables_of(database.admin_url))
    for target in ("0001", "0002", "base"):
        run = run_alembic(database.admin_url, "downgrade", target)
        assert run.returncode != 0
        assert f"this downgrade is refused: {why}" in " ".join(run.stderr.split() + run.stdout.split())
    assert asyncio.run(tables_of(database.admin_url)) == before


def test_event_types_that_the_older_version_does_not_know_refuse_a_downgrade(
    new_database: Callable[[], Servers],
) -> None:
    url = new_database().admin_url
    planted = {
        "activity_hourly_type_users": "SELECT date_trunc('hour', now()), 0, 'default', 'PURCHASE', 'u'",
        "user_activity_types": "SELECT 1, 0, 'default', 'u', 'PURCHASE', 'nothing'",
    }

    async def plant(table: str) -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(f"INSERT INTO read_g1.{table} {planted[table]}")
        await connection.close()

    before = asyncio.run(tables_of(url))
    for table in planted:
        asyncio.run(plant(table))
        run = run_alembic(url, "downgrade", "0008")
        assert run.returncode != 0
        told = f"this downgrade is refused: read_g1.{table} holds rows of event types"
        assert told in " ".join(run.stderr.split() + run.stdout.split())
    assert asyncio.run(tables_of(url)) == before


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("query", "INSERT INTO read_g1.checkpoints VALUES ('t', 0, 0, 0, '')"),
        ("query", "SELECT * FROM read_g1.processed_events"),
        ("query", "CREATE TABLE mine (a int)"),
        ("projector", "DROP TABLE read_g1.processed_events"),
        ("projector", "DELETE FROM read_g1.processed_events"),
        ("projector", "UPDATE read_g1.processed_events SET user_id = ''"),
    ],
)
def test_no_role_can_do_more_than_its_work(new_database: Callable[[], Servers], role: str, statement: str) -> None:
    database = new_database()
    url = {"query": database.query_url, "projector": database.projector_url}[role]

    async def attempt() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute("SET default_transaction_read_only = off")
            await connection.execute(statement)
        finally:
            await connection.close()

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        asyncio.run(attempt())


INDEXES = """
SELECT tablename, indexname, replace(indexdef, schemaname || '.', '') AS definition
FROM pg_indexes WHERE schemaname = $1 ORDER BY 1, 2
"""


def test_every_generation_has_the_same_indexes_whether_migrated_or_built(
    new_database: Callable[[], Servers],
) -> None:
    database = new_database()
    alembic(database.admin_url, "downgrade", "0003")

    async def build(*names: str) -> list[list[asyncpg.Record]]:
        connection = await asyncpg.connect(database.admin_url)
        try:
            for name in names:
                async with connection.transaction():
                    await create_like(connection, GENERATION, name)
                    await connection.execute("UPDATE ops.generations SET state = 'standby' WHERE state = 'building'")
                    await connection.execute("INSERT INTO ops.generations VALUES ($1, 'building')", name)
            schemas = (GENERATION, "read_g2", "read_g3")
            return [list(await connection.fetch(INDEXES, schema)) for schema in schemas]
        finally:
            await connection.close()

    before, built_before, _ = asyncio.run(build("read_g2"))
    assert built_before == before
    alembic(database.admin_url, "upgrade", "head")
    after, built_before, built_after = asyncio.run(build("read_g3"))
    assert {row["indexname"] for row in after} - {row["indexname"] for row in before} == {
        "processed_events_by_user",
        "processed_events_by_product",
        "processed_events_by_position",
        "processed_events_by_tenant_position",
        "dead_letters_by_event",
        "processed_events_by_declared_product",
        "user_activity_types_pkey",
        "activity_hourly_type_users_pkey",
    }
    assert built_before == built_after == after
    alembic(database.admin_url, "downgrade", "0003")
    assert asyncio.run(build())[0] == before


def test_what_calls_itself_a_product_may_be_as_long_as_a_payload(new_database: Callable[[], Servers]) -> None:
    database = new_database()

    async def insert() -> int:
        connection = await asyncpg.connect(database.admin_url)
        try:
            await connection.execute(
                f"INSERT INTO {GENERATION}.processed_events SELECT 0, now(), now(), now(), gen_random_uuid(), 0, 't', "
                "'u', 'PRODUCT_VIEW', jsonb_build_object('productId', string_agg(md5(n::text), '')), '', 'default' "
                "FROM generate_series(1, 500) AS n"
            )
            count: int = await connection.fetchval(f"SELECT count(*) FROM {GENERATION}.processed_events")
            return count
        finally:
            await connection.close()

    assert asyncio.run(insert()) == 1


def test_reporters_from_before_tenants_stay_with_the_default_tenant(new_database: Callable[[], Servers]) -> None:
    database = new_database()
    alembic(database.admin_url, "downgrade", "0011")

    async def run(*statements: str) -> Any:
        connection = await asyncpg.connect(database.admin_url)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    made = ("DROP ROLE IF EXISTS early_reporter", "CREATE ROLE early_reporter LOGIN")
    grants = (
        "GRANT footfall_reporter TO early_reporter",
        "SELECT count(*) FROM pg_views WHERE schemaname = 'reporting'",
    )
    views = asyncio.run(run(*made, *grants))
    alembic(database.admin_url, "upgrade", "head")
    asked = "SELECT tenant_id FROM ops.reporter_tenants WHERE reporter = 'early_reporter'"
    assert asyncio.run(run(asked)) == "default"
    saying = "SELECT count(*) FROM pg_views WHERE schemaname = 'reporting' AND definition LIKE '%SESSION_USER%'"
    assert asyncio.run(run(saying)) == views
    alembic(database.admin_url, "downgrade", "0011")
    saying = "SELECT count(*) FROM pg_views WHERE schemaname = 'reporting' AND definition LIKE '%''default''%'"
    assert asyncio.run(run("DROP ROLE early_reporter", saying)) == views
