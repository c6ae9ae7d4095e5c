"""Queries on a streaming replica, which lags, stops and goes on: fresh there, or refused; never stale."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx
import pytest
import uuid_utils.compat
from click.testing import CliRunner, Result
from pydantic import SecretStr
from rich.console import Console

from contracts.audit_records import AuditAnchor, encode_audit_record
from footfall.cli.main import cli
from footfall.local.embedded.child_process import Child, stop_children
from footfall.local.embedded.postgres.cluster import SUPERUSER, PostgresCluster, open_cluster
from footfall.local.embedded.postgres.roles import (
    OWNER,
    QUERY,
    ensure_roles,
    role_url,
)
from footfall.local.embedded.postgres.server import start_server, wait_for_server
from operations.settings import MigrateSettings, TopicSettings
from operations.setup import create_topics, migrate
from read_model.audit import AuditEntry, write_entry
from read_model.progress import WAKE
from tests import processes
from tests.drivers.failover import copy_of
from tests.feeds import Received, read_all, stream
from tests.own_postgres import PASSWORDS
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import Process, wait_until
from tests.producing import Raw, send
from tests.servers import Servers

COMMIT = """
WITH moved AS (
    UPDATE read_g1.checkpoints SET next_offset = next_offset + 1, stored = stored + 1
    WHERE topic = 't' AND partition = 0 RETURNING next_offset - 1 AS kafka_offset
)
INSERT INTO read_g1.processed_events (kafka_offset, occurred_at, recorded_at, event_id, kafka_partition, kafka_topic,
                                      user_id, event_type, payload, event_json, tenant_id)
SELECT kafka_offset, now(), now(), $1::uuid, 0, 't', 'u', 'LOGIN', '{}', format('{"eventId":"%s"}', $1::uuid), 'default'
FROM moved
RETURNING kafka_offset
"""


@dataclass
class Pair:
    """A primary and its replica."""

    primary: int  # ports
    replica: int

    def url(self, port: int, role: str, password: str, database: str = "footfall") -> str:
        return f"{role_url(port, role, password).rpartition('/')[0]}/{database}"

    async def _on(self, url: str, *statements: str) -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    def on_replica(self, statement: str) -> None:
        asyncio.run(self._on(self.url(self.replica, SUPERUSER, PASSWORDS.superuser), statement))

    def on_primary(self, statement: str) -> None:
        asyncio.run(self._on(self.url(self.primary, OWNER, PASSWORDS.owner), statement))

    def write(self) -> tuple[UUID, str]:
        """One event, as a projector commits it; its id and its position."""
        return asyncio.run(self._write())

    async def _write(self) -> tuple[UUID, str]:
        connection = await asyncpg.connect(self.url(self.primary, OWNER, PASSWORDS.owner))
        try:
            event_id = uuid_utils.compat.uuid7()
            async with connection.transaction():
                offset = await connection.fetchval(COMMIT, event_id)
                await connection.execute(WAKE)
            return event_id, f"0-{offset}"
        finally:
            await connection.close()


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    children: list[Child] = []
    with tempfile.TemporaryDirectory(prefix="footfall-replica-") as directory:
        try:
            yield start_pair(Path(directory), children)
        finally:
            stop_children(children)


def start_pair(directory: Path, children: list[Child]) -> Pair:
    """A primary with the schema, and a replica made by pg_basebackup that follows it."""
    home, standby_home = directory / "primary", directory / "standby"
    home.mkdir()
    ports = Pair(free_port(), free_port())
    cluster = open_cluster(home, PASSWORDS.superuser, False, Console(stderr=True))
    standby = PostgresCluster(standby_home, cluster.user)
    primary = start_server(cluster, ports.primary, False)
    children.append(primary)
    wait_for_server(cluster, primary)
    with (home / "pg_hba.conf").open("a") as access:
        access.write("host replication all 127.0.0.1/32 scram-sha-256\n")
    ensure_roles(ports.primary, PASSWORDS)
    asyncio.run(
        ports._on(ports.url(ports.primary, SUPERUSER, PASSWORDS.superuser, "postgres"), "SELECT pg_reload_conf()")
    )
    migrate(MigrateSettings(database_url=SecretStr(ports.url(ports.primary, OWNER, PASSWORDS.owner))))
    ports.on_primary(
        "INSERT INTO read_g1.checkpoints (topic, partition, next_offset, epoch, owner) VALUES ('t',0,0,1,'o')"
    )
    standby_home.mkdir()
    standby_home.chmod(0o755)  # the server is another user's, as root
    copy_of(ports.primary, standby, directory)
    replica = start_server(standby, ports.replica, False)
    children.append(replica)
    wait_for_server(standby, replica)
    return ports


@pytest.fixture(scope="module")
def side(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    started = processes.start(
        "query-side",
        {
            "DATABASE_URL": pair.url(pair.primary, QUERY, PASSWORDS.query),
            "REPLICA_DATABASE_URL": pair.url(pair.replica, QUERY, PASSWORDS.query),
            "KAFKA_TOPIC": "t",
        },
        tmp_path_factory.mktemp("logs") / "query-side.log",
    )
    yield started
    assert started.terminate() == 0


@pytest.fixture
def client(side: Process) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=side.url, timeout=PATIENCE, headers={"prefer": "wait=30"}) as found:
        yield found


def test_pairs_on_a_replica_that_follows_are_fresh(pair: Pair, client: httpx.Client) -> None:
    for _ in range(25):
        event_id, position = pair.write()
        answer = client.get(f"/events/{event_id}", headers={"footfall-position": position})
        assert answer.status_code == 200, answer.text


def test_a_replica_that_stands_still_refuses_and_answers_once_it_goes_on(
    pair: Pair, side: Process, client: httpx.Client
) -> None:
    told = Received()
    with stream(side.url, told) as live, ThreadPoolExecutor(1) as thread:
        live.read_until(lambda told: bool(told.last_id))
        pair.on_replica("SELECT pg_wal_replay_pause()")
        written = [pair.write() for _ in range(3)]
        event_id, position = written[-1]
        for wait, least in ((0, 0.0), (1, 1.0)):
            began = time.monotonic()
            headers = {"footfall-position": position, "prefer": f"wait={wait}"}
            answer = client.get(f"/events/{event_id}", headers=headers)
            assert answer.status_code == 503, answer.text
            assert time.monotonic() - began >= least
            assert int(answer.headers["footfall-reached"].split("-")[1]) == int(position.split("-")[1]) - 3
        status = client.get(f"/events/{event_id}/status", params={"position": position}, headers={"prefer": "wait=0"})
        assert status.json()["status"] == "accepted"
        assert client.get(f"/events/{event_id}").status_code == 404  # without a position: what the replica has
        patient = {"footfall-position": position, "prefer": "wait=30"}
        waiting = thread.submit(client.get, f"/events/{event_id}", headers=patient)
        pair.on_replica("SELECT pg_wal_replay_resume()")
        assert waiting.result(PATIENCE).status_code == 200
        live.read_until(lambda told: len(told.events) == 3)
    assert told.ids() == [str(event_id) for event_id, _ in written]
    assert [event["eventId"] for event in read_all(client)[0]][-3:] == told.ids()


def test_the_audit_log_of_a_replica_that_is_behind_accuses_nobody(pair: Pair, real_servers: Servers) -> None:
    topic = f"audit-{uuid_utils.compat.uuid4()}"
    create_topics(
        TopicSettings(
            kafka_bootstrap_servers=real_servers.kafka, kafka_topic=f"{topic}-events", kafka_audit_topic=topic
        )
    )
    pair.on_replica("SELECT pg_wal_replay_pause()")
    try:
        anchor = asyncio.run(an_anchor_of_a_new_row(pair.url(pair.primary, OWNER, PASSWORDS.owner)))
        asyncio.run(send(real_servers.kafka, topic, [Raw(encode_audit_record(anchor), partition=0)]))
        behind = verified(pair, pair.replica, real_servers.kafka, topic)
        assert behind.exit_code == 2, behind.output
        assert "Ask the primary" in behind.output
        assert verified(pair, pair.primary, real_servers.kafka, topic).exit_code == 0
    finally:
        pair.on_replica("SELECT pg_wal_replay_resume()")
    wait_until(
        lambda: verified(pair, pair.replica, real_servers.kafka, topic).exit_code == 0, PATIENCE, "the replica's log"
    )


async def an_anchor_of_a_new_row(url: str) -> AuditAnchor:
    connection = await asyncpg.connect(url)
    try:
        await write_entry(connection, AuditEntry(actor="bob", action="test", outcome="done"))
        log = await connection.fetchval("SELECT encode(previous, 'hex') FROM ops.audit WHERE number = 1")
        row = await connection.fetchrow("SELECT number, hash FROM ops.audit ORDER BY number DESC LIMIT 1")
        assert row is not None
        return AuditAnchor(log, row["number"], row["hash"].hex(), datetime.now(UTC))
    finally:
        await connection.close()


def verified(pair: Pair, port: int, kafka: str, topic: str) -> Result:
    """`footfall audit verify` against the server at this port."""
    url = pair.url(port, OWNER, PASSWORDS.owner)
    role = {"ENVIRONMENT": "test", "DATABASE_URL": url, "KAFKA_BOOTSTRAP_SERVERS": kafka, "KAFKA_AUDIT_TOPIC": topic}
    return CliRunner().invoke(cli, ["audit", "verify"], env=role)
