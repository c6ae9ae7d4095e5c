"""The topic by stock Kafka Connect into another PostgreSQL: deploy/connect, with Debezium's JDBC sink.

The table is proven with the sink's own statement. The real worker and connector run with FOOTFALL_LONG=1, which fetches
them from Maven Central (70 MB).
"""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httpx
import pytest

from bench.databases import drop_database
from bench.peers.kafka_connect import CONFIGURATION, Worker
from contracts.erasure import erasure_records, new_erasure
from contracts.event import UserEvent
from contracts.record import from_value
from contracts.wire.frames import frame_for
from tests.conftest import Footfall
from tests.foreign_clients import needed
from tests.own_postgres import OwnPostgres, own_postgres, run
from tests.patience import patient
from tests.ports import free_port
from tests.processes import wait_until
from tests.producing import Raw, an_event, produce, record_of, some_records
from tests.servers import Servers, at_database
from tests.topic_reader import records_of

TABLE = (CONFIGURATION / "activity.sql").read_text()
GOLDEN = Path(__file__).resolve().parents[1] / "contracts" / "golden"
RIGHTS = "GRANT SELECT, INSERT, UPDATE ON activity TO"
# As Debezium's connector writes it (its log at level DEBUG).
UPSERT = """
INSERT INTO public.activity (__connect_topic, __connect_partition, __connect_offset, record) VALUES ($1, $2, $3, $4)
ON CONFLICT (__connect_topic, __connect_partition, __connect_offset) DO UPDATE SET record = EXCLUDED.record
"""
NO_EVENTS = (b"no json", b"", b"\xff\xfe", b"\x00\x00", b'{"eventId":"no id"}', b'{"a":"\\u0000"}', b"{}", None)


class Written:
    """What the sink has written, and a way to write as it does."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def write(self, *values: bytes | None, start: int = 0, partition: int = 0) -> None:
        for offset, value in enumerate(values, start):
            await self.connection.execute(UPSERT, "t", partition, offset, value)

    async def events(self) -> list[dict[str, Any]]:
        rows = await self.connection.fetch("SELECT * FROM activity ORDER BY __connect_partition, __connect_offset")
        return [dict(row) for row in rows]


@pytest.fixture
async def written(real_servers: Servers) -> Any:
    """A database with the table; the session has the sink's rights."""
    name = f"analysts_{os.getpid()}"
    await run(real_servers.admin_url, f"CREATE DATABASE {name}")
    try:
        connection = await asyncpg.connect(at_database(real_servers.admin_url, name))
        try:
            await connection.execute(TABLE)
            await connection.execute(f"CREATE ROLE {name}; GRANT {name} TO CURRENT_USER; {RIGHTS} {name}")
            await connection.execute(f"SET ROLE {name}")
            yield Written(connection)
            await connection.execute(f"RESET ROLE; DROP OWNED BY {name}; DROP ROLE {name}")
        finally:
            await connection.close()
    finally:
        await drop_database(real_servers.admin_url, name)


async def test_every_form_of_an_event_is_read_and_what_is_none_keeps_its_bytes(written: Written) -> None:
    event = an_event("user-1", {"productId": "p-1", "price": 12.50})
    value = record_of(event).value
    assert value is not None
    second = value.replace(b'{"eventId"', b'{"version":"2.0","tenantId":"acme","eventId"')
    await written.write(value, frame_for(7) + value, second, *NO_EVENTS)
    rows = await written.events()
    assert [row["event_id"] for row in rows[:3]] == [event.event_id] * 3
    assert [row["tenant_id"] for row in rows[:3]] == ["default", "default", "acme"]
    assert [json.loads(row["event"]) for row in rows[:2]] == [json.loads(value)] * 2
    assert {(row["user_id"], row["event_type"], row["happened_at"]) for row in rows[:3]} == {
        ("user-1", "PRODUCT_VIEW", event.timestamp)
    }
    assert [row["record"] for row in rows] == [None] * 3 + [*NO_EVENTS[:6], None, None]
    await written.connection.execute("RESET ROLE")
    [once] = await written.connection.fetch("SELECT event_id, tenant_id, payload FROM events")
    assert (once["event_id"], json.loads(once["payload"])) == (event.event_id, {"productId": "p-1", "price": 12.5})


async def test_published_bytes_are_read_and_what_is_sealed_stays_sealed(written: Written) -> None:
    published = [
        json.loads((GOLDEN / name).read_bytes())["value"].encode()
        for name in ("v2/tenant.json", "sealed/v3_tenant.json")
    ]
    await written.write(*published)
    plain, sealed = await written.events()
    assert [row["event_id"] for row in (plain, sealed)] == [UUID(json.loads(each)["eventId"]) for each in published]
    assert (plain["user_id"], sealed["user_id"]) == (json.loads(published[0])["userId"], None)
    assert sealed["tenant_id"] == json.loads(published[1])["tenantId"]


async def test_a_record_that_comes_again_changes_nothing_and_a_marker_forgets_what_stands_before_it(
    written: Written,
) -> None:
    before, other, after = (record_of(an_event(user)).value for user in ("user-1", "user-2", "user-1"))
    marker = erasure_records(new_erasure("default", "user-1"), "r-1", 1)[0].value
    for _ in range(2):
        await written.write(before, other, b"no json", marker, after)
        await written.write(before, partition=1)  # its marker has not come
        rows = await written.events()
        assert [row["__connect_offset"] for row in rows] == [1, 2, 3, 4, 0]
        assert [row["user_id"] for row in rows] == ["user-2", None, None, "user-1", "user-1"]
        assert "user-1" not in rows[2]["event"]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await written.connection.execute("DELETE FROM activity")


@contextmanager
def sink(footfall: Footfall, postgres: OwnPostgres, directory: Path) -> Iterator[Worker]:
    """A worker that is not started yet; none is left afterwards."""
    password = "of-the-sink"
    postgres.run("CREATE DATABASE analysts", "SELECT 1")
    url = postgres.superuser_url("analysts")
    postgres.run(TABLE, f"CREATE ROLE sink LOGIN PASSWORD '{password}'", f"{RIGHTS} sink", "SELECT 1", url=url)
    yield Worker(
        directory,
        {
            "KAFKA_BOOTSTRAP_SERVERS": footfall.servers.kafka,
            "KAFKA_TOPIC": footfall.topic,
            "CONNECT_PORT": str(free_port()),
            "SINK_URL": f"jdbc:postgresql://127.0.0.1:{urlsplit(url).port}/analysts",
            "SINK_USER": "sink",
            "SINK_PASSWORD": password,
        },
    )


def rows_of(postgres: OwnPostgres, sql: str = "SELECT count(*) FROM activity") -> Any:
    """The first value of a query; 0 while the server is away."""
    try:
        return postgres.run(sql, url=postgres.superuser_url("analysts"))
    except (OSError, asyncpg.PostgresError):
        return 0


def facts(postgres: OwnPostgres) -> dict[Any, Any]:
    """The payloads of the view, by id."""

    async def read() -> dict[Any, Any]:
        connection = await asyncpg.connect(postgres.superuser_url("analysts"))
        rows = await connection.fetch("SELECT event_id, user_id, payload FROM events")
        await connection.close()
        return {row["event_id"]: (row["user_id"], json.loads(row["payload"])) for row in rows}

    return asyncio.run(read())


def ended(worker: "subprocess.Popen[bytes]") -> None:
    worker.kill()
    worker.wait()


def restarted(worker: Worker) -> bool:
    """Whether the task had ended, and was started again: its worker does not do that by itself."""
    api = f"http://127.0.0.1:{worker.environment['CONNECT_PORT']}/connectors/footfall-activity"
    [task] = httpx.get(f"{api}/status").json()["tasks"]
    has_ended = bool(task["state"] == "FAILED")
    if has_ended:
        assert httpx.post(f"{api}/restart", params={"includeTasks": True, "onlyFailed": True}).is_success
    return has_ended


@pytest.mark.timeout(patient(600))
def test_the_real_connector_writes_every_record_once_whatever_dies(footfall: Footfall, tmp_path: Path) -> None:
    needed("kafka connect")
    twice = record_of(an_event("user-1"))
    framed = [Raw(frame_for(7) + (record.value or b""), record.key) for record in some_records(20)]
    doubtful = [Raw(value, b"user-1", 0) for value in NO_EVENTS]
    produce(footfall, [twice, *doubtful, *framed, twice, *some_records(10_000)])
    with own_postgres(migrated=False) as postgres, sink(footfall, postgres, tmp_path) as worker:
        running = worker.start()
        try:
            wait_until(lambda: rows_of(postgres) > 0, 120, f"the first rows; its log: {worker.log}")
            ended(running)  # it has told Kafka nothing: that happens every minute
            running = worker.start()
            total = 10_022 + len(NO_EVENTS)
            wait_until(lambda: rows_of(postgres) == total, 120, f"all rows; its log: {worker.log}")
            again = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'activity'"
            wait_until(lambda: rows_of(postgres, again) > 0, 10, "what was delivered twice to be counted")
            produce(footfall, some_records(20_000))
            wait_until(lambda: rows_of(postgres) > total, 120, "the first of the others")
            postgres.crash()
            marker = erasure_records(new_erasure("default", "user-3"), "r-1", 6)
            produce(footfall, [Raw(one.value, one.key, one.partition, headers=one.headers) for one in marker])
            markers = "SELECT count(*) FROM activity WHERE event ->> 'recordKind' = 'erasure'"
            wait_until(lambda: restarted(worker) or rows_of(postgres, markers) == 6, 120, "the crash to be noticed")
            wait_until(lambda: rows_of(postgres, markers) == 6, 120, f"the markers; its log: {worker.log}")
        finally:
            ended(running)
        records = records_of(footfall.servers.kafka, footfall.topic)
        events = [event for record in records if isinstance(event := from_value(record.value), UserEvent)]
        framed_ids = [json.loads(one.value[5:])["eventId"] for one in framed if one.value]
        found = facts(postgres)
        expected = {event.event_id: (event.user_id, event.payload) for event in events if event.user_id != "user-3"}
        assert {key: found.pop(key) for key in expected} == expected
        assert set(map(str, found)) <= set(framed_ids)
        assert rows_of(postgres, "SELECT count(*) FROM activity WHERE record IS NOT NULL") == 6
