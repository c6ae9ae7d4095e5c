"""Whatever the server does to us, no sound event is parked; and when it is well again, everything goes on by itself."""

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
import pytest
from pydantic import SecretStr

from bench.databases import drop_database
from operations.settings import MigrateSettings
from operations.setup import migrate
from projector.writing.failure import CLASSES, CODES, Failure
from read_model.connecting.pool import UnfitDatabaseError, open_pool
from tests.conftest import Footfall
from tests.processes import Process, wait_until
from tests.producing import (
    an_event,
    assert_exactly_once,
    logged,
    metric,
    processed,
    produce,
    record_of,
    some_records,
    sql,
    start_projector,
    wait_until_processed,
)
from tests.servers import Servers, at_database

LONG = os.environ.get("FOOTFALL_LONG") == "1"
PATIENCE = 60.0  # seconds; on a good day everything here takes a few
_serial = itertools.count(1)

FAILS = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE code text := substring(NEW.user_id from '^fails-(.{5})');
BEGIN
    IF code IS NOT NULL AND nextval('public.tries') % 2 = 1 THEN
        RAISE EXCEPTION 'as the test wants it' USING ERRCODE = code;
    END IF;
    RETURN NEW;
END $$
"""
ALWAYS = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'as the test wants it' USING ERRCODE = '{code}'; END $$
"""
TRIGGER = """
CREATE TRIGGER refuse BEFORE INSERT ON read_g1.processed_events FOR EACH ROW EXECUTE FUNCTION public.refuse()
"""


class OwnRole:
    """A projector's login role of this test alone, which may be broken without disturbing others."""

    def __init__(self, footfall: Footfall, elsewhere: str) -> None:
        self.servers = footfall.servers
        self._elsewhere = elsewhere
        self.database = urlsplit(footfall.servers.admin_url).path.removeprefix("/")
        self.name = f"unlucky_projector_{os.getpid()}_{next(_serial)}"
        self.password = "first"
        self.sql(f"CREATE ROLE {self.name} LOGIN PASSWORD '{self.password}' IN ROLE footfall_writer")
        self.sql(f"GRANT {self.name} TO CURRENT_USER")

    @property
    def url(self) -> str:
        parts = urlsplit(self.servers.projector_url)
        where = (parts.netloc.rpartition("@")[2], self.name, quote(self.password))
        return urlunsplit(parts._replace(netloc=f"{where[1]}:{where[2]}@{where[0]}"))

    def sql(self, statement: str) -> None:
        """From another database, for ours may refuse connections."""
        asyncio.run(_execute(self._elsewhere, statement))

    def end_sessions(self) -> None:
        self.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{self.name}'")

    def forget(self) -> None:
        """Once its database is dropped, and its rights there with it."""
        self.sql(f"DROP ROLE {self.name}")


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def role(footfall: Footfall, real_servers: Servers) -> Iterator[OwnRole]:
    role = OwnRole(footfall, real_servers.admin_url)
    yield role
    footfall.close()
    role.forget()


def letters(footfall: Footfall) -> int:
    return int(sql(footfall.servers, "SELECT count(*) FROM read_g1.dead_letters")[0]["count"])


def tries(projector: Process) -> int:
    """Tries that failed, of whatever kind."""
    return projector.log_text().count("stamina.retry_scheduled") + len(logged(projector, "batch_failed"))


def survives(footfall: Footfall, projector: Process, break_it: Callable[[], None], mend: Callable[[], None]) -> None:
    """One event in quiet traffic meets the failure; when that is mended, it is stored, by the same process."""
    done, failed = processed(footfall), tries(projector)
    break_it()
    produce(footfall, some_records(1))
    wait_until(lambda: tries(projector) >= failed + 3, PATIENCE, "three tries to fail")
    assert projector.popen.poll() is None, projector.log_text()[-3000:]
    mend()
    wait_until_processed(footfall, done + 1, PATIENCE)
    assert letters(footfall) == 0


def running(footfall: Footfall, statement: str) -> Callable[[], None]:
    def run() -> None:
        sql(footfall.servers, statement)

    return run


def test_a_role_or_a_database_that_refuses_us_parks_nothing(footfall: Footfall, role: OwnRole) -> None:
    projector = start_projector(footfall, DATABASE_URL=role.url)

    def refusing(statement: str) -> Callable[[], None]:
        def refuse() -> None:
            role.sql(statement)
            role.end_sessions()

        return refuse

    def undone(statement: str) -> Callable[[], None]:
        return lambda: role.sql(statement)

    name, database = role.name, role.database
    for broken, mended in (
        (f"ALTER ROLE {name} NOLOGIN", f"ALTER ROLE {name} LOGIN"),
        (f"ALTER ROLE {name} PASSWORD 'second'", f"ALTER ROLE {name} PASSWORD 'first'"),
        (f"ALTER DATABASE {database} ALLOW_CONNECTIONS false", f"ALTER DATABASE {database} ALLOW_CONNECTIONS true"),
        (f"ALTER ROLE {name} CONNECTION LIMIT 0", f"ALTER ROLE {name} CONNECTION LIMIT -1"),
        (f"REVOKE footfall_writer FROM {name}", f"GRANT footfall_writer TO {name}"),
        (
            f"ALTER ROLE {name} SET default_transaction_read_only = on",  # as sessions are that outlive a failover
            f"ALTER ROLE {name} RESET default_transaction_read_only",
        ),
    ):
        survives(footfall, projector, refusing(broken), undone(mended))
    assert not logged(projector, "partitions_stopped")
    assert_exactly_once(footfall)
    assert projector.terminate() == 0


def test_a_schema_that_is_not_as_the_code_expects_it_parks_nothing(footfall: Footfall) -> None:
    projector = start_projector(footfall)
    for broken, mended in (
        (
            "REVOKE INSERT ON read_g1.processed_events FROM footfall_writer",
            "GRANT INSERT ON read_g1.processed_events TO footfall_writer",
        ),
        ("REVOKE USAGE ON SCHEMA read_g1 FROM footfall_writer", "GRANT USAGE ON SCHEMA read_g1 TO footfall_writer"),
        ("ALTER TABLE read_g1.user_activity RENAME TO gone", "ALTER TABLE read_g1.gone RENAME TO user_activity"),
        (
            "ALTER TABLE read_g1.processed_events RENAME COLUMN event_json TO gone",
            "ALTER TABLE read_g1.processed_events RENAME COLUMN gone TO event_json",
        ),
    ):
        survives(
            footfall,
            projector,
            running(footfall, broken),
            running(footfall, mended),
        )
    assert_exactly_once(footfall)


@pytest.mark.parametrize("code", ["XX000", "55000", "54000"])
def test_a_server_that_fails_on_everything_is_waited_for(footfall: Footfall, code: str) -> None:
    projector = start_projector(footfall)

    def fail() -> None:
        sql(footfall.servers, ALWAYS.format(code=code))
        sql(footfall.servers, TRIGGER)

    survives(footfall, projector, fail, running(footfall, "DROP FUNCTION public.refuse CASCADE"))
    assert_exactly_once(footfall)


FAILS_ONE_USER = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.user_id = 'unlucky' THEN RAISE EXCEPTION 'index is damaged' USING ERRCODE = 'XX002'; END IF;
    RETURN NEW;
END $$
"""


def test_a_page_that_is_damaged_stops_its_partition_alone_until_it_is_mended(footfall: Footfall) -> None:
    """What a damaged index does: some rows fail for ever, others do not. No record is to blame."""
    sql(footfall.servers, FAILS_ONE_USER)
    sql(footfall.servers, TRIGGER)
    projector = start_projector(footfall, PROJECTOR_LANES="1")
    produce(footfall, [record_of(an_event(f"user-{n}"), 0) for n in range(40)])
    produce(footfall, [record_of(an_event("unlucky" if n == 20 else f"user-{n}"), 1) for n in range(40)])
    wait_until(lambda: metric(projector, "partitions_stopped") == 1, PATIENCE, "the partition to stop")
    wait_until_processed(footfall, 60, PATIENCE)
    (line,) = logged(projector, "partitions_stopped")
    assert "server: " in str(line)
    assert "XX002" in str(line)
    produce(footfall, [record_of(an_event(f"user-{n}"), 0) for n in range(40)])
    wait_until_processed(footfall, 100, PATIENCE)
    assert letters(footfall) == 0
    sql(footfall.servers, "DROP FUNCTION public.refuse CASCADE")
    wait_until_processed(footfall, 120, 2 * PATIENCE)
    assert letters(footfall) == 0
    assert_exactly_once(footfall)


# All kinds but the defects, which stop their partition at once; a suspect is acquitted at its second trial.
RAISED = sorted(code for code in CODES) + sorted(
    f"{name}000" for name, kind in CLASSES.items() if kind is not Failure.DEFECT
)


def test_each_class_of_failure_once_on_a_batch_of_one_parks_nothing(footfall: Footfall) -> None:
    sql(footfall.servers, "CREATE SEQUENCE public.tries")
    sql(footfall.servers, "GRANT USAGE ON SEQUENCE public.tries TO footfall_writer")
    sql(footfall.servers, FAILS)
    sql(footfall.servers, TRIGGER)
    projector = start_projector(footfall)
    for count, code in enumerate(RAISED, start=1):
        produce(footfall, [record_of(an_event(f"fails-{code}"))])
        wait_until_processed(footfall, count, PATIENCE)
    assert letters(footfall) == 0
    assert int(sql(footfall.servers, "SELECT last_value FROM public.tries")[0]["last_value"]) == 2 * len(RAISED)
    assert not logged(projector, "partitions_stopped")
    assert_exactly_once(footfall)


ONE_BAD_SESSION = (
    "CREATE SEQUENCE public.bad_session",
    "GRANT ALL ON SEQUENCE public.bad_session TO footfall_writer",
    """CREATE FUNCTION public.spoilt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NOT (SELECT is_called FROM public.bad_session) THEN
        PERFORM setval('public.bad_session', pg_backend_pid());  -- stays, whatever is rolled back
    END IF;
    IF (SELECT last_value FROM public.bad_session) = pg_backend_pid() THEN
        RAISE EXCEPTION 'as the test wants it' USING ERRCODE = 'data_exception';
    END IF;
    RETURN NEW;
    END $$""",
    """CREATE TRIGGER spoilt BEFORE INSERT ON read_g1.processed_events
    FOR EACH ROW WHEN (NEW.user_id = 'unlucky') EXECUTE FUNCTION public.spoilt()""",
)


def test_a_session_that_alone_fails_is_left_before_a_record_is_blamed(footfall: Footfall) -> None:
    for statement in ONE_BAD_SESSION:
        sql(footfall.servers, statement)
    start_projector(footfall)
    produce(footfall, [record_of(an_event(user)) for user in ("one", "two", "three")])
    wait_until_processed(footfall, 3, PATIENCE)
    produce(footfall, [record_of(an_event("unlucky"))])
    wait_until_processed(footfall, 4, PATIENCE)
    assert letters(footfall) == 0


SLOW = """
CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END $$
"""
SLOW_TRIGGER = """
CREATE TRIGGER slow BEFORE INSERT ON read_g1.processed_events FOR EACH ROW EXECUTE FUNCTION public.slow()
"""


def test_a_batch_that_takes_longer_than_the_server_allows_becomes_smaller(
    new_footfall: Any, real_servers: Servers
) -> None:
    """3,000 rows of at least 1 ms each, where no statement may take longer than a second."""
    footfall: Footfall = new_footfall(partitions=1)
    role = OwnRole(footfall, real_servers.admin_url)
    try:
        role.sql(f"ALTER ROLE {role.name} SET statement_timeout = '1s'")
        sql(footfall.servers, SLOW)
        sql(footfall.servers, SLOW_TRIGGER)
        produce(footfall, some_records(3_000))
        projector = start_projector(footfall, DATABASE_URL=role.url)
        wait_until_processed(footfall, 3_000, 2 * PATIENCE)
        kinds = {line["kind"] for line in logged(projector, "batch_failed")}
        assert kinds == {"too much"}
        assert letters(footfall) == 0
        assert_exactly_once(footfall)
    finally:
        footfall.close()
        role.forget()


@pytest.mark.skipif(not LONG, reason="FOOTFALL_LONG=1: as it was seen, 60 ms and 30,000 records")
def test_a_timeout_of_60_ms_stores_a_backlog_of_30_000(footfall: Footfall, role: OwnRole) -> None:
    role.sql(f"ALTER ROLE {role.name} SET statement_timeout = '60ms'")
    produce(footfall, some_records(30_000))
    start_projector(footfall, DATABASE_URL=role.url)
    wait_until_processed(footfall, 30_000, 300)
    assert_exactly_once(footfall)


def test_a_database_that_is_not_utf8_is_refused_with_a_sentence(real_servers: Servers) -> None:
    name = f"latin_{os.getpid()}_{next(_serial)}"
    admin = real_servers.admin_url
    asyncio.run(
        _execute(admin, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'")
    )
    url = at_database(real_servers.admin_url, name)

    async def open_one() -> None:
        pool = await open_pool(url, application="test", min_size=1, max_size=1)
        await pool.close()

    try:
        with pytest.raises(Exception, match=r"is encoded in LATIN1.*ENCODING 'UTF8'"):
            migrate(MigrateSettings(database_url=SecretStr(url)))
        with pytest.raises(UnfitDatabaseError, match=r"is encoded in LATIN1.*ENCODING 'UTF8'"):
            asyncio.run(open_one())
    finally:
        asyncio.run(drop_database(admin, name))


def test_a_projector_that_cannot_begin_names_the_reason(footfall: Footfall) -> None:
    parts = urlsplit(footfall.servers.projector_url)
    user, where = parts.netloc.partition(":")[0], parts.netloc.rpartition("@")[2]
    wrong = urlunsplit(parts._replace(netloc=f"{user}:wrong@{where}"))
    projector = footfall.start("projector", ready=False, DATABASE_URL=wrong)
    assert projector.popen.wait(PATIENCE) == 1
    (line,) = logged(projector, "projector_failed")
    assert line["error"].startswith("InvalidPasswordError 28P01: password authentication failed")
    assert "unhandled errors" not in projector.log_text()
