"""PostgreSQL parses and plans what is asked again and again once for each session, however long the text is."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

import pytest
from pydantic import SecretStr

from contracts.versions import encode_event
from projector.consuming.batch import assemble
from projector.dead_letters.parking import Caps
from projector.projections.projection import PLAN_SETTINGS
from projector.writing.checkpoints import Checkpoints
from projector.writing.commit import Committed, GenerationWriter
from query_side.app import SESSION
from query_side.events.filters import EventFilter
from query_side.events.pages import fetch_page
from query_side.feed.pages import read_page
from query_side.log_positions.positions import PartitionProgress, ReaderPosition
from query_side.log_positions.served_history import UNTAGGED
from read_model.connecting.pool import Connection, closing, connect, open_pool
from tests.drivers.records import Record
from tests.many_events import fill
from tests.producing import an_event
from tests.servers import Servers
from tests.shipped_types import SHIPPED

TOPIC = "t"
NOT_KEPT_BY_DEFAULT = 15 * 1024  # characters, by asyncpg
TIMES = 3
PLANNED_ANEW = 10  # times; PostgreSQL decides after five
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
async def of_a_pool(url: SecretStr, settings: dict[str, str] = PLAN_SETTINGS) -> AsyncIterator[Connection]:
    pool = await open_pool(url, application="test", min_size=1, max_size=1, server_settings=settings)
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


async def test_no_page_is_planned_anew_for_its_arguments(database: Servers) -> None:
    """Left to itself the planner does so once a table is large: it takes an unknown LIMIT for a tenth of all rows."""
    await asyncio.to_thread(fill, database.admin_url, 20_000)
    start = ReaderPosition({0: PartitionProgress(10_000)}, UNTAGGED)
    async with of_a_pool(SecretStr(database.query_url), SESSION) as connection:
        for _ in range(PLANNED_ANEW):
            await fetch_page(connection, "default", EventFilter(user_id="user-1"), None, 100)
            await read_page(cast(Any, connection), "default", TOPIC, start, 100)
        assert await connection.fetchval("SELECT sum(custom_plans)::int FROM pg_prepared_statements") == 0
        assert await connection.fetchval("SELECT sum(generic_plans)::int FROM pg_prepared_statements") > PLANNED_ANEW
