"""`footfall doctor` names each planted fault, with what to do, and nothing where nothing is wrong."""

import json
import time
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner

from footfall.cli.main import cli
from operations.doctor import database, kafka
from operations.doctor.findings import Finding, worst
from operations.doctor.kafka import copies
from operations.doctor.role_limits import role_limits
from tests.conftest import Footfall
from tests.drivers.commands import environment
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.producing import (
    Raw,
    produce,
    some_records,
    sql,
    start_projector,
    wait_until_owning,
    wait_until_processed,
)


@pytest.fixture(autouse=True)
def servers_of_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own servers do not wait for a disk, and may be slow: findings that have tests of their own."""
    monkeypatch.setattr(database, "DURABILITY", "SELECT name FROM pg_settings WHERE false")
    monkeypatch.setattr(kafka, "SLOW", PATIENCE)


def doctor(
    footfall: Footfall, *arguments: str, url: str | None = None, **more: str
) -> tuple[int, list[dict[str, Any]]]:
    """Its exit code and its findings."""
    variables = environment(footfall, url or footfall.servers.admin_url, **more)
    run = CliRunner().invoke(cli, ["doctor", "--json", *arguments], env=variables)
    assert run.exception is None or isinstance(run.exception, SystemExit), repr(run.exception)
    return run.exit_code, json.loads(run.stdout)


def not_well(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each["check"], each["verdict"]) for each in found if each["verdict"] != "well"]


def test_where_nothing_is_wrong_everything_was_looked_at(footfall: Footfall) -> None:
    wait_until_owning(start_projector(footfall), 6)
    code, found = doctor(footfall)
    assert (code, not_well(found)) == (0, []), found
    looked_at = {each["check"] for each in found}
    assert looked_at == {
        *(*database.CHECKS, "settings", "certificates", "Kafka", "topic", "copies", "other topics"),
        *("projecting", "group", "rebuild", "history", "dead letters", "event types", "retention"),
    }
    table = CliRunner().invoke(cli, ["doctor"], env=environment(footfall, footfall.servers.admin_url, COLUMNS="200"))
    assert "ok" in table.stdout
    assert "None is parked." in table.stdout


def test_planted_faults_are_named_with_what_to_do(footfall: Footfall) -> None:
    produce(footfall, [Raw(b"poison", b"user-1", 2)])
    projector = start_projector(footfall)
    wait_until_processed(footfall, 1)
    projector.kill()
    sql(footfall.servers, "CREATE TABLE read_g1.broken AS SELECT 1 AS x FROM generate_series(1, 2)")
    with pytest.raises(asyncpg.UniqueViolationError):
        sql(footfall.servers, "CREATE UNIQUE INDEX CONCURRENTLY broken_x ON read_g1.broken (x)")
    sql(footfall.servers, "UPDATE footfall_migrations SET version_num = '9999'")
    code, found = doctor(footfall)
    assert code == 1
    assert {("schema", "warning"), ("indexes", "problem"), ("dead letters", "warning")} <= set(not_well(found))
    assert ("projecting", "problem") in not_well(found)
    assert ("event types", "unknown") in not_well(found)  # nobody reads them in a schema of another version
    said = {each["check"]: f"{each['says']} {each['remedy']}" for each in found}
    assert "REINDEX INDEX CONCURRENTLY read_g1.broken_x" in said["indexes"]
    assert "footfall dlq list" in said["dead letters"]


def test_a_role_that_may_not_see_says_so_and_a_warning_counts_when_asked(footfall: Footfall) -> None:
    wait_until_owning(start_projector(footfall), 6)
    code, found = doctor(footfall, url=footfall.servers.query_url)
    assert code == 2, found
    assert ("transactions", "unknown") in not_well(found)
    produce(footfall, [Raw(b"poison", b"user-1", 2)])
    wait_until_processed(footfall, 1)
    assert doctor(footfall)[0] == 0
    assert doctor(footfall, "--strict")[0] == 1


@pytest.mark.parametrize("away", ["DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS"])
def test_a_server_that_is_away_hides_only_what_it_alone_can_tell(footfall: Footfall, away: str) -> None:
    port = free_port()
    url = f"postgresql://nobody:s3cret@127.0.0.1:{port}/x" if away == "DATABASE_URL" else None
    more = {} if url else {away: f"127.0.0.1:{port}"}
    code, found = doctor(footfall, url=url, **more)
    assert code == 1
    server, other = ("PostgreSQL", "Kafka") if url else ("Kafka", "PostgreSQL")
    verdicts = {each["check"]: each["verdict"] for each in found}
    assert (verdicts[server], verdicts[other], verdicts["projecting"]) == ("problem", "well", "unknown")
    assert "s3cret" not in json.dumps(found)


async def test_a_role_that_only_reads_and_has_no_limits_is_named(footfall: Footfall) -> None:
    connection = await asyncpg.connect(footfall.servers.admin_url)
    limits = "statement_timeout = '1h'", "idle_in_transaction_session_timeout = 0"
    transaction = connection.transaction()  # roles are the whole server's, which other tests use, too
    await transaction.start()
    try:
        for role, group in (("unbounded", "footfall_reader"), ("writes", "footfall_writer")):
            await connection.execute(f"CREATE ROLE {role} LOGIN IN ROLE {group}")
        for limit in limits:
            await connection.execute(f"ALTER ROLE unbounded SET {limit}")
        says = {each.says: each.remedy for each in await role_limits(connection)}
        (said,) = [each for each in says if "unbounded" in each]
        assert "no idle_in_transaction_session_timeout, temp_file_limit:" in said
        assert not [each for each in says if "writes" in each or "footfall_query" in each]
        for statement in says[said].removeprefix("As a superuser: ").split("; "):
            await connection.execute(statement)
        assert not [each for each in await role_limits(connection) if "unbounded" in each.says]
    finally:
        await transaction.rollback()
        await connection.close()


async def test_thresholds(footfall: Footfall, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = await asyncpg.connect(footfall.servers.admin_url)
    other = await asyncpg.connect(footfall.servers.admin_url, server_settings={"application_name": "a report"})
    try:
        await other.execute("BEGIN; SELECT 1")
        for name, value in (("LONG_TRANSACTION", -1), ("MANY_TRANSACTIONS", (0, 0)), ("CONNECTIONS_SHARE", 0)):
            monkeypatch.setattr(database, name, value)
        (open_one,) = [
            each for each in await database.transactions(connection) if str(other.get_server_pid()) in each.says
        ]
        assert "a report" in open_one.says
        assert f"pg_terminate_backend({other.get_server_pid()})" in open_one.remedy
        assert worst(await database.wraparound(connection)) == "problem"
        assert worst(await database.connections(connection)) == "warning"
        for hours, word in ((-1, "ahead of"), (1, "behind")):
            monkeypatch.setattr(time, "time", lambda now=time.time, hours=hours: now() + hours * 3600)
            (found,) = await database.clock(connection)
            assert (found.verdict, word in found.says) == ("problem", True)
            monkeypatch.undo()
    finally:
        await other.close()
        await connection.close()


def test_a_producer_whose_clock_is_ahead_is_noticed(footfall: Footfall) -> None:
    wait_until_owning(start_projector(footfall), 6)
    now = round(time.time() * 1000)
    produce(footfall, [Raw(each.value, each.key, 0, now + 600_000) for each in some_records(3)])
    produce(footfall, [Raw(each.value, each.key, 0) for each in some_records(3)])
    wait_until_processed(footfall, 6)
    code, found = doctor(footfall, url=footfall.servers.projector_url)
    said = {each["check"]: (each["verdict"], each["says"], each["remedy"]) for each in found}
    verdict, says, remedy = said["clocks of producers"]
    assert (code, verdict) == (1, "problem")
    assert float(says.partition(" up to ")[2].split()[0]) == pytest.approx(600, abs=PATIENCE)
    assert "command side" in remedy
    assert said["clock"][0] == "well"


async def test_a_server_that_does_not_wait_for_its_disk(footfall: Footfall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    connection = await asyncpg.connect(footfall.servers.admin_url)
    found = await database.durability(connection)
    await connection.close()
    assert {each.verdict for each in found} == {"problem"}
    assert "fsync is off: a crash may corrupt the tables." in [each.says for each in found]


def test_copies_that_are_behind_and_partitions_without_a_leader() -> None:
    whole = {"partition": 0, "leader": 1, "replicas": [1, 2, 3], "isr": [1, 2, 3]}
    assert worst(copies([whole])) == "well"
    behind, headless = {**whole, "partition": 1, "isr": [1]}, {**whole, "partition": 2, "leader": -1}
    found = copies([headless, behind, whole])
    assert [(each.verdict, each.remedy) for each in found] == [
        ("warning", "Look at the brokers [2, 3]."),
        ("problem", "Start the brokers [1, 2, 3]."),
    ]


def test_nothing_that_was_looked_at_is_not_well() -> None:
    assert worst([]) == "unknown"
    assert worst([Finding("a", "well", "."), Finding("b", "unknown", ".")]) == "unknown"
