"""Reporters: what a role that `footfall grant-reporter` made may do and what not, and `footfall sql` as that role."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil
import pytest
from click.testing import CliRunner, Result

from footfall.cli.main import cli
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import run_to_end, wait_until
from tests.servers import Servers

PASSWORD = "not-a-secret-here"


def footfall(*arguments: str, stdin: str = "", **environment: str) -> Result:
    """`footfall <arguments>` in this process: for what does not become psql."""
    return CliRunner().invoke(cli, arguments, input=stdin, env={"ENVIRONMENT": "test", **environment})


def url_of(servers: Servers, name: str, password: str = PASSWORD) -> str:
    parts = urlsplit(servers.admin_url)
    return urlunsplit(parts._replace(netloc=f"{name}:{password}@{parts.netloc.rpartition('@')[2]}"))


def asked(url: str, *statements: str) -> list[str]:
    """The first value of each statement, in one session."""

    async def ask() -> list[str]:
        connection = await asyncpg.connect(url)
        try:
            return [str(await connection.fetchval(statement)) for statement in statements]
        finally:
            await connection.close()

    return asyncio.run(ask())


def grant(servers: Servers, name: str, *options: str, stdin: str = f"{PASSWORD}\n") -> str:
    """`footfall grant-reporter`, which must succeed; returns what it prints."""
    options = (*options, "--password-stdin") if stdin else options
    run = footfall("grant-reporter", name, *options, stdin=stdin, DATABASE_URL=servers.admin_url)
    assert run.exit_code == 0, run.output
    return run.stdout


@pytest.fixture(scope="module")
def database(new_database: Callable[[], Servers]) -> Iterator[Servers]:
    """A database of its own, in which `reporter_a` was granted. Roles are the cluster's: they go with the module."""
    found = new_database()
    grant(found, "reporter_a")
    yield found
    made = "SELECT coalesce(string_agg(rolname, ' '), '') FROM pg_roles WHERE rolname LIKE 'reporter\\__'"
    for name in asked(found.admin_url, made)[0].split():
        asked(found.admin_url, f"DROP ROLE {name}")


FORBIDDEN = [
    "SELECT * FROM read_g1.processed_events",
    "SELECT * FROM read.processed_events",
    "SELECT * FROM read.user_activity",
    "SELECT * FROM ops.generations",
    "SELECT value FROM ops.secrets",
    "SELECT * FROM public.footfall_migrations",
    "SELECT rolpassword FROM pg_authid",
    "SELECT * FROM pg_statistic",
    "SELECT pg_read_file('/etc/hostname')",
    "SELECT pg_ls_dir('/')",
    "SELECT pg_reload_conf()",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT lo_create(0)",
    "SELECT lo_import('/etc/hostname')",
    "SELECT pg_logical_emit_message(true, 'x', repeat('x', 1000))",
    "SELECT pg_logical_emit_message(false, 'x', 'x'::bytea)",
    "SET temp_file_limit = -1",
    "ALTER ROLE reporter_a SET temp_file_limit = -1",
    "BEGIN; LOCK TABLE ops.journal IN SHARE UPDATE EXCLUSIVE MODE",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY (SELECT 1) TO '/tmp/reported'",
    "INSERT INTO read_g1.checkpoints VALUES ('t', 0, 0, 0, '')",
    "INSERT INTO reporting.events (event_id) VALUES (NULL)",
    "UPDATE reporting.events SET user_id = ''",
    "DELETE FROM reporting.events",
    "TRUNCATE read_g1.processed_events",
    "BEGIN; LOCK TABLE reporting.users IN ROW EXCLUSIVE MODE",
    "CREATE TABLE mine (a int)",
    "CREATE TABLE public.mine (a int)",
    "CREATE TABLE reporting.mine (a int)",
    "CREATE TEMPORARY TABLE mine (a int)",
    "SELECT 1 AS a INTO TEMPORARY mine",
    "CREATE SCHEMA mine",
    "CREATE FUNCTION reporting.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "DROP VIEW reporting.events",
    "COMMENT ON VIEW reporting.events IS ''",
    "ALTER VIEW reporting.events RESET (security_barrier)",
    "CREATE ROLE mine",
    "CREATE DATABASE mine",
    "GRANT footfall_writer TO reporter_a",
    "ALTER ROLE reporter_a CONNECTION LIMIT 100",
    "SET ROLE footfall",
    "SET ROLE footfall_reader",
    "SET ROLE footfall_reporter",
    "SET SESSION AUTHORIZATION footfall",
]


@pytest.fixture(scope="module")
def refusals(database: Servers) -> dict[str, str]:
    """What PostgreSQL says to each forbidden statement of a reporter that has set aside its read-only default."""

    async def attempt() -> dict[str, str]:
        connection = await asyncpg.connect(url_of(database, "reporter_a"))
        said = {}
        try:
            await connection.execute("SET default_transaction_read_only = off")
            for statement in FORBIDDEN:
                try:
                    await connection.execute(statement)
                except asyncpg.PostgresError as error:
                    said[statement] = error.sqlstate or ""
                    await connection.execute("ROLLBACK")
        finally:
            await connection.close()
        return said

    return asyncio.run(attempt())


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_a_reporter_is_refused_for_lack_of_privilege(refusals: dict[str, str], statement: str) -> None:
    assert refusals.get(statement) == "42501", "insufficient_privilege is what must stop it"


def test_a_reporters_sessions_have_safe_defaults(database: Servers) -> None:
    settings = {
        "default_transaction_read_only": "on",
        "statement_timeout": "30s",
        "transaction_timeout": "1min",
        "idle_in_transaction_session_timeout": "30s",
        "TimeZone": "UTC",
        "search_path": "reporting",
        "temp_file_limit": "1GB",
    }
    url = url_of(database, "reporter_a")
    assert asked(url, *(f"SHOW {name}" for name in settings)) == list(settings.values())
    assert asked(url, "SELECT count(*) FROM users") == ["0"]
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        asked(url, "CREATE TABLE mine (a int)")


def test_limits_are_kept_and_what_a_role_changed_for_itself_is_undone(database: Servers) -> None:
    limits = ("--statement-timeout", "1", "--connections", "1")
    grant(database, "reporter_b", *limits)
    url = url_of(database, "reporter_b")
    with pytest.raises(asyncpg.QueryCanceledError, match="statement timeout"):
        asked(url, "SELECT count(*) FROM generate_series(1, 1000000000)")

    async def one_too_many() -> None:
        connection = await asyncpg.connect(url)
        try:
            with pytest.raises(asyncpg.TooManyConnectionsError):
                await asyncpg.connect(url)
        finally:
            await connection.close()

    asyncio.run(one_too_many())
    changed = "ALTER ROLE reporter_b SET statement_timeout = 0"
    asked(url, "SET default_transaction_read_only = off", changed, "ALTER ROLE reporter_b SET work_mem = '1GB'")
    assert asked(url, "SHOW statement_timeout", "SHOW work_mem") == ["0", "1GB"]  # as docs/sql.md says
    grant(database, "reporter_b", *limits)
    assert asked(url, "SHOW statement_timeout", "SHOW work_mem") == ["1s", "4MB"]


def test_a_password_is_made_once_and_kept_until_another_is_asked_for(database: Servers) -> None:
    def shown(*options: str) -> list[str]:
        return re.findall(
            r"^Its password, shown only now: (\S+)$", grant(database, "reporter_c", *options, stdin=""), re.MULTILINE
        )

    (first,) = shown()
    assert len(first) == 32
    assert asked(url_of(database, "reporter_c", first), "SELECT current_user") == ["reporter_c"]
    assert shown() == []
    assert asked(url_of(database, "reporter_c", first), "SELECT 1") == ["1"]
    (second,) = shown("--new-password")
    assert asked(url_of(database, "reporter_c", second), "SELECT 1") == ["1"]
    with pytest.raises(asyncpg.InvalidPasswordError):
        asked(url_of(database, "reporter_c", first), "SELECT 1")
    assert PASSWORD not in grant(database, "reporter_c")


def assert_refused(run: Result, *words: str, code: int = 1) -> None:
    assert run.exit_code == code, run.output
    assert run.stdout == ""
    assert isinstance(run.exception, SystemExit)
    said = " ".join(run.stderr.replace("│", " ").split())  # a usage error comes in a frame
    assert all(word in said for word in words), run.stderr


def test_grant_reporter_refuses_roles_of_other_purpose_bad_names_and_weak_passwords(database: Servers) -> None:
    environment = {"DATABASE_URL": database.admin_url}
    query = urlsplit(database.query_url).username or ""
    assert_refused(footfall("grant-reporter", query, **environment), "not a reporter", "Choose another name")
    assert_refused(footfall("grant-reporter", 'x"; DROP', **environment), "cannot name a reporter", code=2)
    assert_refused(footfall("grant-reporter", "pg_x", **environment), "cannot name a reporter", code=2)
    weak = footfall("grant-reporter", "reporter_d", "--password-stdin", stdin="short\n", **environment)
    assert_refused(weak, "12 to 128", code=2)
    assert "short" not in weak.stderr
    assert_refused(footfall("grant-reporter", "reporter_d", DATABASE_URL=database.query_url), "granted nothing")
    nobody = f"postgresql://u:hunter2@127.0.0.1:{free_port()}/x"
    assert_refused(footfall("grant-reporter", "reporter_d", DATABASE_URL=nobody), "granted nothing")
    assert asked(database.admin_url, "SELECT count(*) FROM pg_roles WHERE rolname = 'reporter_d'") == ["0"]


def test_grant_reporter_changes_nothing_where_everybody_may_do_more(new_database: Callable[[], Servers]) -> None:
    database = new_database()
    asked(database.admin_url, "CREATE TABLE public.notes (a int)", "GRANT INSERT ON public.notes TO PUBLIC")
    run = footfall("grant-reporter", "reporter_e", DATABASE_URL=database.admin_url)
    assert_refused(run, "INSERT on public.notes", "Revoke that")
    assert asked(database.admin_url, "SELECT count(*) FROM pg_roles WHERE rolname = 'reporter_e'") == ["0"]


def test_grant_reporter_asks_for_the_schema_where_it_is_missing(new_database: Callable[[], Servers]) -> None:
    database = new_database()
    asked(database.admin_url, "DROP SCHEMA reporting CASCADE")
    assert_refused(footfall("grant-reporter", "reporter_f", DATABASE_URL=database.admin_url), "footfall migrate")


def sql(url: str, *arguments: str, stdin: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    """`footfall sql <arguments>`, which becomes psql."""
    return run_to_end("sql", *arguments, environment={"REPORTING_DATABASE_URL": url, **environment}, answers=stdin)


def test_footfall_sql_runs_commands_files_and_a_prompt(database: Servers, tmp_path: Path) -> None:
    url = url_of(database, "reporter_a")
    run = sql(url, "--csv", "-c", "SELECT current_user, count(*) FROM users", "-c", "SHOW statement_timeout")
    assert (run.returncode, run.stdout) == (0, "current_user,count\nreporter_a,0\nstatement_timeout\n30s\n"), run.stderr
    (tmp_path / "all.sql").write_text("SELECT 1 AS one;\nSELECT nonsense;\nSELECT 3 AS three;\n")
    run = sql(url, "--csv", "-f", str(tmp_path / "all.sql"))
    assert (run.returncode, run.stdout) == (3, "one\n1\n")
    assert 'column "nonsense" does not exist' in run.stderr
    run = sql(url, stdin="\\pset format csv\nTABLE active_users_daily;\n\\q\n")
    assert (run.returncode, run.stdout) == (0, "Output format is csv.\nday,users,new_users,events\n"), run.stderr


def test_footfall_sql_keeps_the_password_off_the_command_line(database: Servers) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "footfall", "sql", "-c", "SELECT pg_sleep(25)"],
        env={**os.environ, "ENVIRONMENT": "test", "REPORTING_DATABASE_URL": url_of(database, "reporter_a")},
        stdout=subprocess.DEVNULL,
    )
    try:
        psql = psutil.Process(running.pid)  # psql takes the place of the process
        wait_until(lambda: "pg_sleep" in str(psql.cmdline()) and "psql" in psql.cmdline()[0], 20, "psql to run")
        assert PASSWORD not in " ".join(psql.cmdline())
        assert psql.environ()["PGPASSWORD"] == PASSWORD
    finally:
        running.kill()
        running.wait(PATIENCE)


def test_without_psql_on_path_it_is_the_embedded_servers(database: Servers, tmp_path: Path) -> None:
    run = sql(url_of(database, "reporter_a"), "-c", r"\echo :VERSION_NUM", PATH=str(tmp_path))
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("18")


def test_footfall_sql_refuses_other_roles_and_says_who_cannot_be_reached(database: Servers, tmp_path: Path) -> None:
    def refused(url: str) -> Result:
        return footfall("sql", "-c", "SELECT 1", REPORTING_DATABASE_URL=url)

    assert_refused(refused(database.admin_url), "may do more", "CREATE on", "grant-reporter")
    assert_refused(refused(database.query_url), "SELECT on ops.")
    wrong = refused(url_of(database, "reporter_a", "wrong-password-1"))
    assert_refused(wrong, "password authentication failed")
    assert "wrong-password-1" not in wrong.stderr
    assert_refused(refused(f"postgresql://u:hunter2@127.0.0.1:{free_port()}/x"), "footfall: sql: ")
    unset = footfall("sql", "--state-dir", str(tmp_path / "none"))
    assert_refused(unset, "REPORTING_DATABASE_URL is not set", "footfall up")
