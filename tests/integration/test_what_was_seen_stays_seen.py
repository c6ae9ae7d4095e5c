"""PostgreSQL crashes, or comes back older: nothing that a reader was shown is denied, and all is mended by itself.

The server here is the worst case: `synchronous_commit=off` by its own configuration, and a WAL that is written late, so
that a crash really loses commits that readers saw.
"""

import asyncio
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr
from rich.console import Console

from contracts.event import UserEvent
from footfall.local.embedded.child_process import Child, stop_children
from footfall.local.embedded.postgres.cluster import SUPERUSER, open_cluster
from footfall.local.embedded.postgres.roles import OWNER, PROJECTOR, QUERY, Passwords, ensure_roles, role_url
from footfall.local.embedded.postgres.server import start_server, wait_for_server
from operations.settings import MigrateSettings
from operations.setup import migrate
from read_model.connecting.unavailable import NOT_YET_THERE
from telemetry.connections import once_there
from tests.conftest import Footfall
from tests.drivers.rebuilding import rebuild
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import Process, wait_until
from tests.producing import an_event, produce, record_of, sql
from tests.servers import Servers

LONG = bool(os.environ.get("FOOTFALL_LONG"))
CRASHES, READS = (50, 1_000) if LONG else (2, 40)
PASSWORDS = Passwords("superuser-secret", "owner-secret", "projector-secret", "query-secret")
LATE_WAL = ("ALTER SYSTEM SET synchronous_commit = 'off'", "ALTER SYSTEM SET wal_writer_delay = '10s'")
A_PROJECTOR = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'footfall-projector read%' LIMIT 1"


class OwnPostgres:
    """A PostgreSQL that may be crashed, stopped, and put back to an older copy of itself."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._port = free_port()
        self._cluster = open_cluster(home, PASSWORDS.superuser, False, Console(stderr=True))
        self.start()
        ensure_roles(self._port, PASSWORDS)
        migrate(MigrateSettings(database_url=SecretStr(self.url(OWNER, PASSWORDS.owner))))
        for statement in (*LATE_WAL, "SELECT pg_reload_conf()"):  # from here on: a crash must not take the schema
            asyncio.run(self.ask(statement))

    def url(self, role: str, password: str) -> str:
        return role_url(self._port, role, password)

    def servers(self, kafka: str) -> Servers:
        urls = [(OWNER, PASSWORDS.owner), (PROJECTOR, PASSWORDS.projector), (QUERY, PASSWORDS.query)]
        return Servers(kafka, *(self.url(*role) for role in urls))

    async def ask(self, statement: str) -> Any:
        url = self.url(SUPERUSER, PASSWORDS.superuser)
        connection = await once_there("the crashed server", lambda: asyncpg.connect(url), NOT_YET_THERE, PATIENCE)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    def start(self) -> None:
        self._child: Child = start_server(self._cluster, self._port, False)
        wait_for_server(self._cluster, self._child)

    def stop(self) -> None:
        stop_children([self._child])

    async def crash(self) -> None:
        """SIGKILLs one backend, as the kernel does when memory is short: the postmaster ends all, and recovers."""
        pid = await self.ask(A_PROJECTOR)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    def copy(self, source: str, target: str) -> None:
        subprocess.run(["rm", "-rf", str(self._home / target)], check=True)
        subprocess.run(["cp", "-a", str(self._home / source), str(self._home / target)], check=True)


@pytest.fixture
def postgres() -> Iterator[OwnPostgres]:
    with tempfile.TemporaryDirectory(prefix="footfall-crash-") as directory:
        (home := Path(directory) / "postgres").mkdir()
        server = OwnPostgres(home)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def footfall(
    postgres: OwnPostgres, real_servers: Servers, new_topic: Callable[..., str], tmp_path: Path
) -> Iterator[Footfall]:
    instance = Footfall(postgres.servers(real_servers.kafka), new_topic(partitions=3), tmp_path)
    yield instance
    instance.close()


class Reader:
    """A client that reads with positions, and counts what is stale. It takes a 503 for what it is: try again."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.answered = 0
        self.stale: list[str] = []

    async def read(self, event: UserEvent, position: str) -> None:
        async with asyncio.timeout(PATIENCE):
            for path in (f"/events/{event.event_id}", f"/users/{event.user_id}/events"):
                while not await self._shows(path, event, position):  # noqa: ASYNC110 - another process's state
                    await asyncio.sleep(0.05)

    async def _shows(self, path: str, event: UserEvent, position: str) -> bool:
        try:
            answer = await self._client.get(path, headers={"Footfall-Position": position, "Prefer": "wait=1"})
        except httpx.TransportError:
            return False
        if answer.status_code == 503:
            return False
        self.answered += 1
        if answer.status_code != 200 or str(event.event_id) not in answer.text:
            self.stale.append(f"{answer.status_code} {path} at {position}: {answer.text[:100]}")
        return True


@asynccontextmanager
async def sending(footfall: Footfall) -> AsyncIterator[Callable[[], Any]]:
    producer = AIOKafkaProducer(bootstrap_servers=footfall.servers.kafka, acks="all")
    await producer.start()
    serial = iter(range(1_000_000))

    async def send() -> tuple[UserEvent, str]:
        event = an_event(f"user-{next(serial)}")
        record = record_of(event)
        sent = await producer.send_and_wait(footfall.topic, record.value, key=record.key)
        return event, f"{sent.partition}-{sent.offset}"

    try:
        yield send
    finally:
        await producer.stop()


async def read_across_crashes(footfall: Footfall, postgres: OwnPostgres, side: Process) -> Reader:
    async with httpx.AsyncClient(base_url=side.url, timeout=PATIENCE) as client, sending(footfall) as send:
        reader = Reader(client)
        for _ in range(CRASHES):
            half = READS // CRASHES // 2
            seen = [await send() for _ in range(half)]
            for event, position in seen:
                await reader.read(event, position)
            seen += [await send() for _ in range(READS // CRASHES - half)]
            crashing = asyncio.create_task(postgres.crash())  # while they are projected and read
            for event, position in seen:
                await reader.read(event, position)
            await crashing
            await postgres.crash()  # now the topic is idle: what was lost comes back without traffic
            for event, position in seen:
                await reader.read(event, position)
    return reader


def test_no_fresh_read_is_stale_across_crashes_that_lose_commits(footfall: Footfall, postgres: OwnPostgres) -> None:
    footfall.start("projector")
    side = footfall.start("query-side")
    reader = asyncio.run(read_across_crashes(footfall, postgres, side))
    assert reader.stale == []
    assert reader.answered >= 4 * READS
    stored = sql(
        footfall.servers, "SELECT count(*) AS n, count(DISTINCT event_id) AS events FROM read.processed_events"
    )
    assert dict(stored[0]) == {"n": READS, "events": READS}


def counts(footfall: Footfall) -> tuple[int, int]:
    found = [sql(footfall.servers, f"SELECT count(*) AS n FROM {g}.processed_events")[0]["n"] for g in GENERATIONS]
    return found[0], found[1]


GENERATIONS = ("read_g1", "read_g2")


def test_after_a_fail_over_to_an_older_copy_every_generation_is_mended_without_traffic(
    footfall: Footfall, postgres: OwnPostgres, record_testsuite_property: Callable[[str, object], None]
) -> None:
    footfall.start("projector")
    side = footfall.start("query-side")
    rebuild(footfall, "start")
    events = [an_event(f"user-{n}") for n in range(40)]
    placed = produce(footfall, [record_of(event) for event in events[:20]])
    wait_until(lambda: counts(footfall) == (20, 20), 60, "both generations to have the first half")
    postgres.stop()
    postgres.copy("data", "older")
    postgres.start()
    placed += produce(footfall, [record_of(event) for event in events[20:]])
    wait_until(lambda: counts(footfall) == (40, 40), 60, "both generations to have all")
    asyncio.run(all_read(side, events, placed))
    postgres.stop()
    postgres.copy("older", "data")
    postgres.start()
    began = time.monotonic()
    wait_until(lambda: counts(footfall) == (40, 40), 60, "both generations to be mended")
    record_testsuite_property(
        "mended_after", f"{time.monotonic() - began:.1f} s"
    )  # docs/reliability.md; see --junit-xml
    asyncio.run(all_read(side, events, placed))


async def all_read(side: Process, events: list[UserEvent], placed: list[tuple[int, int]]) -> None:
    async with httpx.AsyncClient(base_url=side.url, timeout=PATIENCE) as client:
        reader = Reader(client)
        for event, (partition, offset) in zip(events, placed, strict=True):
            await reader.read(event, f"{partition}-{offset}")
        assert reader.stale == []
