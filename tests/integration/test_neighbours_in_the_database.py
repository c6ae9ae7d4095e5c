"""Those beside us in the database: what a reporter's session, or a neighbour's, can do to us, and what not."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest
from alembic.util import CommandError
from click.testing import CliRunner, Result
from pydantic import SecretStr

from footfall.cli.main import cli
from footfall.local.reporter import grant_local, local_reporter_url
from operations.settings import MigrateSettings
from operations.setup import migrate
from read_model.connecting import operators_lock
from tests.architecture.repository import ROOT
from tests.conftest import Footfall
from tests.own_postgres import OwnPostgres, own_postgres
from tests.patience import PATIENCE
from tests.servers import Servers, at_database

PATIENT = {
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "statement_timeout": "0",
    "application_name": "somebody",
}


def footfall(*arguments: str, **environment: str) -> Result:
    """`footfall <arguments>` in this process."""
    return CliRunner().invoke(cli, arguments, env={"ENVIRONMENT": "test", **environment})


@pytest.fixture(scope="module")
def postgres() -> Iterator[OwnPostgres]:
    """With the smallest queue of notifications that PostgreSQL allows, half a megabyte, and a reporter."""
    with own_postgres(max_notify_queue_pages="64") as found:
        asyncio.run(grant_local(found.servers().admin_url))
        yield found


async def until_refused(connection: asyncpg.Connection, statement: str) -> None:
    while True:
        await connection.execute(statement)


@contextmanager
def session(url: str, *statements: str) -> Iterator[int]:
    """A session that has run these, in a transaction that it leaves open; its process id."""
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(url, server_settings=PATIENT))
    for statement in statements:
        loop.run_until_complete(connection.execute(statement))
    yield connection.get_server_pid()
    loop.run_until_complete(connection.close())
    loop.close()


def test_advisory_locks_of_a_reporter_hold_up_no_operator(postgres: OwnPostgres) -> None:
    servers = postgres.servers()
    url = local_reporter_url(servers.admin_url)
    ours_once = ", ".join(f"pg_advisory_lock({0xF007FA11 + number})" for number in range(3))
    with session(url, f"SELECT {ours_once}"):
        for arguments in (("migrate",), ("grant-reporter", "reporter_n")):
            run = footfall(*arguments, DATABASE_URL=servers.admin_url)
            assert run.exit_code == 0, run.output


def test_what_a_superuser_must_revoke_on_a_server_of_another_is_printed_and_is_enough(postgres: OwnPostgres) -> None:
    owner, reporter = postgres.servers().admin_url, local_reporter_url(postgres.servers().admin_url)
    refusals = (("postgres", "SELECT 1"), ("template1", "SELECT 1"), ("footfall", "SELECT lo_create(0)"))

    def assert_refused() -> None:
        for database, statement in refusals:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                postgres.run("SET default_transaction_read_only = off", statement, url=at_database(reporter, database))

    assert_refused()
    postgres.run(
        "GRANT CONNECT ON DATABASE postgres, template1 TO PUBLIC",
        "GRANT EXECUTE ON FUNCTION pg_catalog.lo_create(oid) TO PUBLIC",
    )
    steps = asyncio.run(grant_local(owner)).superuser_steps
    assert len(steps) == 3
    postgres.run(*steps)
    assert asyncio.run(grant_local(owner)).superuser_steps == ()
    assert_refused()


def test_who_holds_what_an_operator_waits_for_is_named(postgres: OwnPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    servers = postgres.servers()
    monkeypatch.setattr("read_model.connecting.operators_lock.PATIENCE", 0.2)
    with session(servers.admin_url, "BEGIN", operators_lock.LOCK) as pid:
        for arguments in (("rebuild", "start"), ("grant-reporter", "reporter_n")):
            run = footfall(*arguments, DATABASE_URL=servers.admin_url)
            assert run.exit_code == 1
            assert f"session {pid} (role footfall, application somebody, since 20" in run.stderr, run.output
    settings = MigrateSettings(database_url=SecretStr(servers.admin_url))
    turn = "LOCK TABLE footfall_migrations IN SHARE UPDATE EXCLUSIVE MODE"
    with session(servers.admin_url, "BEGIN", turn) as pid, pytest.raises(CommandError) as refused:
        migrate(settings, patience=0.2)
    assert f"another migration is running: session {pid} (role footfall" in str(refused.value)


def test_a_reader_in_the_way_of_a_migration_is_named(postgres: OwnPostgres) -> None:
    postgres.run("CREATE DATABASE half OWNER footfall", url=postgres.superuser_url("postgres"))
    url = at_database(postgres.servers().admin_url, "half")
    settings = MigrateSettings(database_url=SecretStr(url))
    migrate(settings, "0005")
    reader = at_database(postgres.servers().query_url, "half")
    with (
        session(reader, "BEGIN", "SELECT FROM read.dead_letters") as pid,
        pytest.raises(CommandError, match="tables to change are in use") as refused,
    ):
        migrate(settings, patience=0.2)
    assert f"session {pid} (role footfall_query, application somebody" in str(refused.value)
    migrate(settings)


def test_a_migration_waits_for_a_reporter_for_less_than_ten_seconds() -> None:
    """What it then says is tested above, with less patience."""
    waits = dict(re.findall(r"^(\w+_PATIENCE) = ([\d.]+)$", (ROOT / "migrations/env.py").read_text(), re.MULTILINE))
    assert float(waits["TABLES_PATIENCE"]) < 10


def test_a_reporters_locks_sorts_and_transactions_hold_up_no_event(
    postgres: OwnPostgres, real_servers: Servers, new_topic: Callable[..., str], tmp_path: Path
) -> None:
    servers = postgres.servers(real_servers.kafka)
    url = local_reporter_url(servers.admin_url)
    for bounded in (url, servers.query_url):
        assert postgres.run("SHOW temp_file_limit", url=bounded) == "1GB"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            postgres.run("SET temp_file_limit = -1", url=bounded)
    postgres.run("ALTER ROLE footfall_report SET temp_file_limit = '1MB'", "SELECT 1")
    ours = ", ".join(f"pg_advisory_lock({number})" for number in (*range(10), *(0xF007FA11 + n for n in range(3))))
    instance = Footfall(servers, new_topic(2), tmp_path)
    read_all = [f"SELECT FROM reporting.{view}" for view in ("events", "users", "sessions", "activity_hourly")]
    try:
        with session(url, f"SELECT {ours}"), session(url, "BEGIN", *read_all):
            projector, front = instance.start("projector"), instance.start("front")
            with pytest.raises(asyncpg.ConfigurationLimitExceededError, match="temp_file_limit"):
                postgres.run(
                    "SELECT max(n || repeat('x', 99)) OVER (ORDER BY -n) FROM generate_series(1, 200000) n", url=url
                )
            for writing in ("SELECT pg_logical_emit_message(false, '', repeat('x', 1000000))", "SELECT lo_create(0)"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):  # nothing of a reporter's is in the WAL
                    postgres.run(writing, url=url)
            with httpx.Client(base_url=front.url, timeout=PATIENCE) as client:
                for number in range(5):
                    answer = client.post("/events/generate", json={"userId": f"user-{number}", "eventType": "LOGIN"})
                    fresh = {"footfall-position": answer.headers["footfall-position"], "prefer": "wait=30"}
                    assert client.get(answer.headers["location"], headers=fresh).status_code == 200
            assert "batch_failed" not in projector.log_text()
    finally:
        instance.close()
        postgres.run("ALTER ROLE footfall_report SET temp_file_limit = '1GB'", "SELECT 1")


@pytest.fixture
def queue_is_full(postgres: OwnPostgres) -> Iterator[None]:
    """A reporter listens in a transaction that it leaves open, and notifies until PostgreSQL refuses."""
    loop = asyncio.new_event_loop()
    url = local_reporter_url(postgres.servers().admin_url)

    async def fill() -> tuple[asyncpg.Connection, asyncpg.Connection]:
        listener, talker = [await asyncpg.connect(url, server_settings=PATIENT) for _ in range(2)]
        await listener.execute("LISTEN nothing")
        await listener.execute("BEGIN; SELECT 1")
        with pytest.raises(asyncpg.ProgramLimitExceededError, match="NOTIFY queue"):
            await until_refused(
                talker, "SELECT pg_notify('nothing', n || repeat('x', 7000)) FROM generate_series(1, 8) n"
            )
        return listener, talker

    sessions = loop.run_until_complete(fill())
    yield
    for session in sessions:
        loop.run_until_complete(session.close())
    loop.close()


def test_a_full_queue_of_notifications_fails_no_batch_and_hides_nothing(
    postgres: OwnPostgres, real_servers: Servers, new_topic: Callable[..., str], tmp_path: Path, queue_is_full: None
) -> None:
    servers = postgres.servers(real_servers.kafka)
    instance = Footfall(servers, new_topic(2), tmp_path)
    try:
        projector, front = instance.start("projector"), instance.start("front")
        with httpx.Client(base_url=front.url, timeout=PATIENCE) as client:
            for number in range(5):
                answer = client.post("/events/generate", json={"userId": f"user-{number}", "eventType": "LOGIN"})
                assert answer.status_code == 201, answer.text
                fresh = {"footfall-position": answer.headers["footfall-position"], "prefer": "wait=30"}
                assert client.get(answer.headers["location"], headers=fresh).status_code == 200
        operator = {**instance.environment(), "DATABASE_URL": servers.admin_url}
        for arguments in (("migrate",), ("rebuild", "start"), ("rebuild", "promote", "--force")):
            run = footfall(*arguments, **operator)
            assert run.exit_code == 0, run.output
        said = projector.log_text()
        assert '"readers_not_told"' in said
        assert "54000" in said
        assert "batch_failed" not in said
    finally:
        instance.close()
