"""The audit log: who did what, appended by roles that can do no more, and proven by its anchors in Kafka."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from click.testing import CliRunner, Result
from prometheus_client import Counter
from pydantic import SecretStr
from structlog.testing import capture_logs

from command_side.refusal_notes import RefusalNotes
from contracts.audit_records import AuditNote, encode_audit_record, new_entry_id
from contracts.record import key_of
from footfall.cli.main import cli
from operations.settings import TopicSettings
from operations.setup import create_topics
from projector.audit import keeper
from projector.audit.keeper import AuditKeeper
from projector.settings import ProjectorSettings
from query_side.audit.recorder import AuditRecorder
from read_model.audit import AuditEntry, write_entry
from telemetry.refusals import RefusalTally
from tests.conftest import Footfall
from tests.own_postgres import OwnPostgres, own_postgres
from tests.patience import PATIENCE
from tests.processes import wait_until
from tests.producing import Raw, committed_records, delete_before, produce, send
from tests.servers import Servers

ROLES = ("admin_url", "projector_url", "query_url")


@pytest.fixture(scope="module")
def postgres() -> Iterator[OwnPostgres]:
    with own_postgres() as found:
        yield found


@pytest.fixture(scope="module")
def instance(
    postgres: OwnPostgres,
    real_servers: Servers,
    new_topic: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Footfall]:
    """A projector that keeps the log of this PostgreSQL."""
    found = Footfall(postgres.servers(real_servers.kafka), new_topic(1), tmp_path_factory.mktemp("logs"))
    found.start("projector")
    yield found
    found.close()


def footfall(instance: Footfall, *arguments: str, **environment: str) -> Result:
    """`footfall <arguments>` in this process, as the database's owner."""
    settings = {"ENVIRONMENT": "test", "DATABASE_URL": instance.servers.admin_url, **instance.environment()}
    return CliRunner().invoke(cli, arguments, env=settings | environment)


def listed(instance: Footfall, *arguments: str) -> list[dict[str, Any]]:
    run = footfall(instance, "audit", "list", "--json", *arguments)
    assert run.exit_code == 0, run.output
    found: list[dict[str, Any]] = json.loads(run.stdout)
    return found[::-1]


def verified(instance: Footfall) -> dict[str, Any]:
    run = footfall(instance, "audit", "verify", "--json")
    assert run.exit_code in (0, 1), run.output
    found: dict[str, Any] = json.loads(run.stdout)
    assert run.exit_code == bool(found["findings"])
    return found


async def append(url: str, *entries: AuditEntry) -> None:
    connection = await asyncpg.connect(url, server_settings={"default_transaction_read_only": "off"})
    for entry in entries:
        await write_entry(connection, entry)
    await connection.close()


@asynccontextmanager
async def kept(instance: Footfall, topic: str | None = None) -> AsyncIterator[None]:
    """A projector that keeps the log does, during the body, and at once what it does every minute otherwise."""
    settings = ProjectorSettings(
        database_url=SecretStr(instance.servers.projector_url),
        kafka_bootstrap_servers=instance.servers.kafka,
        kafka_audit_topic=topic or f"{instance.topic}-audit",
    )
    async with (
        asyncpg.create_pool(instance.servers.projector_url, min_size=1, max_size=2) as pool,
        AuditKeeper(settings, pool, lambda: True).keeping(),
    ):
        yield


async def keep_until(instance: Footfall, row: int) -> None:
    """Returns once this row is anchored."""
    async with kept(instance), asyncio.timeout(PATIENCE):
        while (await asyncio.to_thread(verified, instance))["confirmed"] < row:  # noqa: ASYNC110 - Kafka's state
            await asyncio.sleep(0.1)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "LOOK_INTERVAL", 0.1)
    monkeypatch.setattr(keeper, "RETRY_DELAY", 0.1)
    monkeypatch.setattr(keeper, "ANCHOR_INTERVAL", 0.0)


@pytest.mark.parametrize("role", ROLES)
def test_every_role_can_append_and_none_can_do_more(postgres: OwnPostgres, role: str) -> None:
    url = getattr(postgres.servers(), role)
    asyncio.run(append(url, AuditEntry(actor="somebody", action="test", outcome="done")))
    for statement in (
        "UPDATE ops.audit SET actor = 'another'",
        "DELETE FROM ops.audit",
        "TRUNCATE ops.audit",
        "INSERT INTO ops.audit SELECT * FROM ops.audit",
        "SELECT * FROM ops.audit_key",
        "ALTER TABLE ops.audit DISABLE TRIGGER ALL",
        "BEGIN; LOCK TABLE ops.audit IN SHARE UPDATE EXCLUSIVE MODE",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            postgres.run("SET default_transaction_read_only = off", statement, "SELECT 1", url=url)
    with pytest.raises(asyncpg.RaiseError, match="append-only"):  # not by accident, whatever the role
        postgres.run("DELETE FROM ops.audit")


def test_no_role_but_the_owner_reads_it(postgres: OwnPostgres) -> None:
    for role in ("projector_url", "query_url"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            postgres.run("SELECT actor FROM ops.audit", url=getattr(postgres.servers(), role))


def test_what_operators_do_is_written_before_and_after(instance: Footfall) -> None:
    began = len(listed(instance))
    produce(instance, [Raw(b"no event", b"user-17")])
    wait_until(
        lambda: '"count":1' in footfall(instance, "dlq", "list", "--json").stdout.replace(" ", ""), PATIENCE, "parked"
    )
    letter = (instance.topic, "0", "0")
    for arguments, code in (
        (("dlq", "show", *letter, "--raw"), 0),
        (("dlq", "redrive", "--user", "user-17"), 0),
        (("dlq", "discard", "--user", "user-17", "--yes"), 0),
        (("dlq", "discard", "--user", "user-17", "--yes", "--dry-run"), 0),
        (("grant-reporter", "analyst"), 0),
        (("grant-reporter", "footfall_query"), 1),
        (("rebuild", "start"), 0),
        (("rebuild", "promote"), 1),
        (("rebuild", "cancel"), 0),
        (("gaps", "accept-position", "0", "0", "--yes"), 0),
    ):
        run = footfall(instance, *arguments, FOOTFALL_ACTOR="alice")
        assert run.exit_code == code, run.output
    rows = listed(instance, "--actor", "alice")
    assert len(listed(instance)) == began + len(rows)
    assert [(row["action"], row["target"], row["outcome"]) for row in rows] == [
        ("dlq show", f"{instance.topic} 0 0 with its value", "done"),
        ("dlq redrive", "{}", "begun"),
        ("dlq redrive", "1 poison", "done"),
        ("dlq discard", "{}", "begun"),
        ("dlq discard", "1 discarded", "done"),
        ("grant-reporter", "role analyst", "begun"),
        ("grant-reporter", "role analyst", "done"),
        ("grant-reporter", "role footfall_query", "begun"),
        ("grant-reporter", "role footfall_query", "refused"),
        ("rebuild start", "", "begun"),
        ("rebuild start", "read_g2", "done"),
        ("rebuild promote", "", "begun"),
        ("rebuild promote", "", "refused"),
        ("rebuild cancel", "", "begun"),
        ("rebuild cancel", "read_g2", "done"),
        ("gaps accept-position", "partition 0 at 0", "begun"),
        ("gaps accept-position", "partition 0 at 0", "done"),
    ]
    assert {row["role"] for row in rows} == {"footfall"}
    about = listed(instance, "--user", "user-17")
    assert [row["action"] for row in about] == ["dlq show"] + ["dlq redrive"] * 2 + ["dlq discard"] * 2
    assert "user-17" not in str(listed(instance))


def test_what_is_done_to_a_letter_is_written_of_the_tenant_whose_it_is(instance: Footfall) -> None:
    [(partition, offset)] = produce(instance, [Raw(b"no event", key_of("acme", "user-18"))])
    chosen = ("--tenant", "acme", "--user", "user-18")
    wait_until(
        lambda: '"count":1' in footfall(instance, "dlq", "list", *chosen, "--json").stdout.replace(" ", ""),
        PATIENCE,
        "parked",
    )
    for arguments in (
        ("show", instance.topic, str(partition), str(offset)),
        ("redrive", *chosen),
        ("discard", *chosen, "--yes"),
    ):
        run = footfall(instance, "dlq", *arguments)
        assert run.exit_code == 0, run.output
    about = listed(instance, *chosen)
    assert [row["action"] for row in about] == ["dlq show"] + ["dlq redrive"] * 2 + ["dlq discard"] * 2
    assert listed(instance, "--user", "user-18") == []


def test_what_cannot_be_written_is_not_done(instance: Footfall, postgres: OwnPostgres) -> None:
    postgres.run("ALTER FUNCTION ops.write_audit RENAME TO no_audit", "SELECT 1")
    try:
        for arguments in (
            ("rebuild", "start"),
            ("grant-reporter", "nobody_else"),
            ("dlq", "show", instance.topic, "0", "0"),
        ):
            run = footfall(instance, *arguments)
            assert run.exit_code == 1
            assert "audit log" in run.stderr
            assert "no event" not in run.output
    finally:
        postgres.run("ALTER FUNCTION ops.no_audit RENAME TO write_audit", "SELECT 1")
    assert postgres.run("SELECT count(*) FROM ops.generations") == 1
    assert postgres.run("SELECT to_regrole('nobody_else') IS NULL")


def test_writers_at_once_make_one_chain(instance: Footfall, postgres: OwnPostgres) -> None:
    url = postgres.servers().projector_url
    began = len(listed(instance, "--limit", "100000"))

    async def all_at_once() -> None:
        entry = AuditEntry(actor="one of many", action="test", outcome="done")
        await asyncio.gather(*(append(url, *[entry] * 25) for _ in range(8)))

    asyncio.run(all_at_once())
    assert verified(instance)["findings"] == []
    assert len(listed(instance, "--limit", "100000")) == began + 200


def test_notes_that_come_by_kafka_are_written_once(instance: Footfall, impatient: None) -> None:
    notes = [AuditNote(new_entry_id(), "key:1", f"note {number}\0", "done", request_id="r") for number in range(3)]
    garbage = [b"{}", b"\xff", b'{"kind":"note"}']
    values = [*map(encode_audit_record, [*notes, notes[0]]), *garbage, encode_audit_record(notes[1])]
    asyncio.run(send(instance.servers.kafka, f"{instance.topic}-audit", [Raw(value, partition=0) for value in values]))

    async def twice() -> None:
        for _ in range(2):  # another projector takes over, and reads some of them again
            async with kept(instance), asyncio.timeout(PATIENCE):
                while len(await asyncio.to_thread(listed, instance, "--action", "note")) < 3:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.1)
                await asyncio.sleep(0.5)

    asyncio.run(twice())
    rows = listed(instance, "--action", "note")
    assert [row["action"] for row in rows] == ["note 0", "note 1", "note 2"]
    assert [row["entry_id"] for row in rows] == [str(note.entry_id) for note in notes]
    assert {row["role"] for row in rows} == {"footfall_projector"}
    found = verified(instance)
    assert (found["findings"], found["unreadable"]) == ([], 3)


async def test_a_topic_that_is_not_there_is_named_and_kept_once_it_is(instance: Footfall, impatient: None) -> None:
    kafka, topic = instance.servers.kafka, f"{instance.topic}-later"
    with capture_logs() as lines:
        async with kept(instance, topic), asyncio.timeout(PATIENCE):
            while len(lines) < 2:  # noqa: ASYNC110 - what another task logs
                await asyncio.sleep(0.1)
            assert {line["error"] for line in lines} == {"UnknownTopicOrPartitionError"}
            settings = TopicSettings(
                kafka_bootstrap_servers=kafka, kafka_topic=f"{topic}-events", kafka_audit_topic=topic
            )
            await asyncio.to_thread(create_topics, settings)
            while not await asyncio.to_thread(committed_records, kafka, topic):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.1)  # it will have an anchor


async def test_anchors_that_are_gone_from_the_topic_are_missed_and_the_head_is_anchored_anew(
    instance: Footfall, postgres: OwnPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First somebody deletes the records, then the topic, and makes it again; the head does not change meanwhile."""
    monkeypatch.setattr(keeper, "LOOK_INTERVAL", 0.1)
    monkeypatch.setattr(keeper, "RETRY_DELAY", 0.1)
    kafka, topic = instance.servers.kafka, f"{instance.topic}-gone"
    settings = TopicSettings(kafka_bootstrap_servers=kafka, kafka_topic=f"{topic}-events", kafka_audit_topic=topic)
    await asyncio.to_thread(create_topics, settings)
    with capture_logs() as lines:
        async with kept(instance, topic), asyncio.timeout(PATIENCE):
            await anchored(kafka, topic)
            await delete_before(kafka, topic, 0, 1)
            await anchored(kafka, topic)
            verify = ("audit", "verify", "--json")
            run = await asyncio.to_thread(footfall, instance, *verify, KAFKA_AUDIT_TOPIC=topic)
            assert json.loads(run.stdout)["deleted"] == 1
            admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
            await admin.start()
            await admin.delete_topics([topic])
            await admin.close()
            await asyncio.sleep(1.0)
            await asyncio.to_thread(create_topics, settings)
            await anchored(kafka, topic)
            note = AuditNote(new_entry_id(), "key:1", "after it was made anew", "done", request_id="r")
            await send(kafka, topic, [Raw(encode_audit_record(note), partition=0)])
            while not await asyncio.to_thread(listed, instance, "--action", note.action):  # noqa: ASYNC110 - its rows
                await asyncio.sleep(0.1)
    assert [line["event"] for line in lines].count("audit_anchors_are_gone") >= 1


async def anchored(kafka: str, topic: str) -> None:
    while not await asyncio.to_thread(committed_records, kafka, topic):  # noqa: ASYNC110 - Kafka's state
        await asyncio.sleep(0.1)


FORGED = "SET session_replication_role = replica"  # triggers do not fire for a superuser who says so
TAMPERINGS = {
    "UPDATE ops.audit SET actor = 'nobody' WHERE number = {last} - 5": ("changed", 5, 5),
    "DELETE FROM ops.audit WHERE number = {last} - 5": ("removed", 5, 5),
    "DELETE FROM ops.audit WHERE number > {last} - 5": ("cut off", 4, 0),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_what_a_superuser_does_to_it_is_found_and_named(
    instance: Footfall, postgres: OwnPostgres, impatient: None, tampering: str
) -> None:
    url = postgres.servers().projector_url
    asyncio.run(append(url, *[AuditEntry(actor="bob", action="test", outcome="done")] * 7))
    last = postgres.run("SELECT max(number) FROM ops.audit")
    asyncio.run(keep_until(instance, last))
    postgres.run("CREATE TABLE kept_audit AS SELECT * FROM ops.audit", "SELECT 1")
    try:
        postgres.run(FORGED, tampering.format(last=last), "SELECT 1")
        [found] = verified(instance)["findings"]
        kind, first, end = TAMPERINGS[tampering]
        assert (found["kind"], found["first"], found["last"]) == (kind, last - first, last - end), found
    finally:
        postgres.run(
            FORGED,
            "TRUNCATE ops.audit",
            "INSERT INTO ops.audit SELECT * FROM kept_audit",
            "DROP TABLE kept_audit",
            "SELECT 1",
        )
    assert verified(instance)["findings"] == []


def test_an_export_is_written_before_its_first_byte_or_refused(instance: Footfall, postgres: OwnPostgres) -> None:
    front = instance.start("query-side", DATABASE_URL=postgres.servers().query_url)
    with httpx.Client(base_url=front.url, timeout=PATIENCE) as client:
        for _ in range(20):  # more of the same within a minute are no more rows
            assert client.get("/events/processed").status_code == 200
        answer = client.get("/users/user-17/events?format=csv", headers={"x-request-id": "the-request"})
        assert answer.status_code == 200
        for query in ("?limit=10", "?format=csv&limit=10", "?userId=user-17"):
            assert client.get(f"/events/processed{query}").status_code == 200
        rows = listed(instance, "--action", "export")
        assert [(row["actor"], row["tenant_id"], row["target"], row["outcome"]) for row in rows] == [
            ("anonymous", "default", "application/json", "done"),
            ("anonymous", "default", "text/csv", "done"),
        ]
        assert rows[1]["request_id"] == "the-request"
        assert rows[1]["role"] == "footfall_query"
        assert [row["number"] for row in listed(instance, "--user", "user-17", "--action", "export")] == [
            rows[1]["number"]
        ]
        postgres.run("ALTER FUNCTION ops.write_audit RENAME TO no_audit", "SELECT 1")
        try:
            answer = client.get("/events/processed?format=ndjson")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert "audit log" in answer.json()["error"]
            assert client.get("/events/processed?limit=10").status_code == 200  # a page is no export
        finally:
            postgres.run("ALTER FUNCTION ops.no_audit RENAME TO write_audit", "SELECT 1")
        assert client.get("/events/processed?format=ndjson").status_code == 200
    front.terminate()
    assert [row["target"] for row in listed(instance, "--action", "export")] == [
        "application/json",
        "text/csv",
        "application/x-ndjson",
        "application/json; 19 more in a minute",
    ]


def test_what_is_done_to_keys_comes_by_kafka_and_names_no_key(instance: Footfall, impatient: None) -> None:
    environment = {"KAFKA_KEYS_TOPIC": f"{instance.topic}-keys", "FOOTFALL_ACTOR": "carol"}
    run = footfall(instance, "keys", "create", "--kind", "secret", "--name", "backend", "--json", **environment)
    assert run.exit_code == 0, run.output
    made = json.loads(run.stdout)
    assert footfall(instance, "keys", "revoke", "no-such-key", **environment).exit_code == 1

    async def appended() -> None:
        async with kept(instance), asyncio.timeout(PATIENCE):
            while len(await asyncio.to_thread(listed, instance, "--actor", "carol")) < 4:  # noqa: ASYNC110 - Kafka's state
                await asyncio.sleep(0.1)

    asyncio.run(appended())
    rows = listed(instance, "--actor", "carol")
    assert [(row["action"], row["outcome"]) for row in rows] == [
        ("keys create", "begun"),
        ("keys create", "done"),
        ("keys revoke", "begun"),
        ("keys revoke", "refused"),
    ]
    assert (made.get("keyId") or made["id"]) in rows[1]["target"]
    assert made["key"] not in str(rows)


async def test_refused_sign_ins_are_one_row_a_reason_and_minute(instance: Footfall, postgres: OwnPostgres) -> None:
    counter = Counter("refused_here", "", ["reason"], registry=None)
    counter.labels(reason="unknown").inc(1_000)
    counter.labels(reason="expired").inc(2)
    tally = RefusalTally(counter)
    before = len(await asyncio.to_thread(listed, instance, "--limit", "100000"))

    async def opened() -> asyncpg.Pool:
        return await asyncpg.create_pool(
            postgres.servers().query_url, min_size=0, server_settings={"default_transaction_read_only": "off"}
        )

    async def away() -> asyncpg.Pool:
        raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        await AuditRecorder(away, tally).flush()
    recorder = AuditRecorder(opened, tally)
    async with recorder.running():
        await recorder.flush()
        await recorder.flush()
        counter.labels(reason="unknown").inc(3)
    rows = await asyncio.to_thread(listed, instance, "--limit", "100000")
    assert [row["target"] for row in rows[before:]] == ["unknown: 1000", "expired: 2", "unknown: 3"]
    assert {(row["action"], row["outcome"]) for row in rows[before:]} == {("sign-ins refused", "refused")}
    await RefusalNotes({}, "nowhere", tally).send()  # nothing is left for another part of the process
