"""Those beside us in the database: what a reporter's session, or a neighbour's, can do to us, and what not."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from click.testing import CliRunner, Result

from footfall.cli import cli
from footfall.local_reporter import grant_local, local_reporter_url
from tests.conftest import Footfall
from tests.own_postgres import OwnPostgres, own_postgres
from tests.servers import Servers


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


@pytest.fixture
def queue_is_full(postgres: OwnPostgres) -> Iterator[None]:
    """A reporter listens in a transaction that it leaves open, and notifies until PostgreSQL refuses."""
    loop = asyncio.new_event_loop()
    url = local_reporter_url(postgres.servers().admin_url)
    settings = {"transaction_timeout": "0", "idle_in_transaction_session_timeout": "0", "statement_timeout": "0"}

    async def fill() -> tuple[asyncpg.Connection, asyncpg.Connection]:
        listener, talker = [await asyncpg.connect(url, server_settings=settings) for _ in range(2)]
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
        with httpx.Client(base_url=front.url, timeout=60) as client:
            for number in range(5):
                answer = client.post("/events/generate", json={"userId": f"user-{number}", "eventType": "LOGIN"})
                assert answer.status_code == 201, answer.text
                fresh = {"footfall-position": answer.headers["footfall-position"], "prefer": "wait=30"}
                assert client.get(answer.headers["location"], headers=fresh).status_code == 200
        operator = {**instance.environment(), "DATABASE_URL": servers.admin_url}
        for arguments in (("rebuild", "start"), ("rebuild", "promote", "--force")):
            run = footfall(*arguments, **operator)
            assert run.exit_code == 0, run.output
        said = projector.log_text()
        assert '"readers_not_told"' in said
        assert "54000" in said
        assert "batch_failed" not in said
    finally:
        instance.close()
