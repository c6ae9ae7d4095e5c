"""PostgreSQL parses and plans what is asked again and again once for each session, however long the text is."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from pydantic import SecretStr

from contracts.versions import encode_event
from projector.consuming.batch import assemble
from projector.dead_letters.parking import Caps
from projector.projections.projection import PLAN_SETTINGS
from projector.writing.checkpoints import Checkpoints
from projector.writing.commit import Committed, GenerationWriter
from read_model.connecting.pool import Connection, closing, connect, open_pool
from tests.drivers.records import Record
from tests.producing import an_event
from tests.servers import Servers
from tests.shipped_types import SHIPPED

TOPIC = "t"
NOT_KEPT_BY_DEFAULT = 15 * 1024  # characters, by asyncpg
TIMES = 3
USES = """
SELECT count(*) AS statements, sum(generic_plans + custom_plans)::int AS uses FROM pg_prepared_statements
WHERE length(statement) > $1
"""


@asynccontextmanager
async def one_connection(url: SecretStr) -> AsyncIterator[Connection]:
    connection = await connect(url, "test")
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def of_a_pool(url: SecretStr) -> AsyncIterator[Connection]:
    pool = await open_pool(url, application="test", min_size=1, max_size=1, server_settings=PLAN_SETTINGS)
    async with closing(pool), pool.acquire() as connection:
        yield connection


@pytest.mark.parametrize("opened", [one_connection, of_a_pool])
async def test_a_long_statement_is_prepared_once(
    opened: Callable[[SecretStr], AbstractAsyncContextManager[Connection]], real_servers: Servers
) -> None:
    async with opened(SecretStr(real_servers.query_url)) as connection:
        for number in range(TIMES):
            assert await connection.fetchval(f"SELECT $1::int {'-- ' + 'x' * 20_000}", number) == number
        assert [tuple(row) for row in await connection.fetch(USES, NOT_KEPT_BY_DEFAULT)] == [(1, TIMES)]


@pytest.fixture
def database(new_database: Callable[[], Servers]) -> Servers:
    return new_database()


async def test_the_projectors_commit_is_prepared_once(database: Servers) -> None:
    """A commit that is planned anew costs more than what it does (docs/performance.md)."""
    async with of_a_pool(SecretStr(database.projector_url)) as connection:
        checkpoints, writer = Checkpoints("read_g1", TOPIC), GenerationWriter("read_g1", SHIPPED)
        await checkpoints.create(connection, {0: 0})
        for number in range(TIMES):
            [position] = await checkpoints.claim(connection, [0], "me")
            record = Record(0, number, encode_event(an_event(f"user-{number}", {})))
            batch = assemble({position: [record]}, {}, Caps()).batch
            assert isinstance(await writer.commit(connection, batch), Committed)
        assert [tuple(row) for row in await connection.fetch(USES, NOT_KEPT_BY_DEFAULT)] == [(1, TIMES)]
