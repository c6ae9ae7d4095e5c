"""The history of the console's graphs: one console writes it, its rows are bounded, and a restart finds it again."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from console.looking import history
from console.looking.history import COLUMNS, RANGES, History, write
from console.looking.scrape import Scraper
from console.looking.watch import Watch
from console.settings import ConsoleSettings
from projector.settings import ProjectorSettings
from tests.patience import PATIENCE
from tests.servers import Servers

NOW = datetime.now(UTC)
OLD = """
INSERT INTO ops.history (seconds, at, lag)
SELECT seconds, $1::timestamptz - n * seconds * interval '1 second', n
FROM unnest(ARRAY[10, 60]) AS seconds CROSS JOIN generate_series(1, 20000) AS n
"""
MOST = {10: 2_160, 60: 10_080}  # rows, as docs/console.md says


@pytest.fixture(scope="module")
def servers(new_database: Callable[[], Servers]) -> Servers:
    return new_database()


@pytest.fixture
async def connection(servers: Servers) -> AsyncIterator[asyncpg.Connection]:
    found = await asyncpg.connect(servers.admin_url)
    await found.execute("TRUNCATE ops.history")
    yield found
    await found.close()


def a_console(servers: Servers) -> History:
    settings = ConsoleSettings(database_url=servers.query_url, operator_database_url=servers.admin_url)  # type: ignore[arg-type]
    looking = ProjectorSettings(database_url=servers.admin_url)  # type: ignore[arg-type]
    return History(settings, Watch(looking, None, Scraper([], "", "")))


async def test_rows_are_bounded_and_a_minute_keeps_the_worst_of_it(connection: asyncpg.Connection) -> None:
    await connection.execute(OLD, NOW)
    begin = NOW.replace(second=0, microsecond=0)
    for n in range(7):  # the last one ends the minute
        found = dict.fromkeys(COLUMNS, None) | {"accepted": float(n), "lag": float(n)}
        await write(connection, begin + timedelta(seconds=10 * (n + 1)), found, [n, 10 - n])
    counts = await connection.fetch("SELECT seconds, count(*) FROM ops.history GROUP BY 1")
    assert all(row["count"] <= MOST[row["seconds"]] + 7 for row in counts), counts
    minute = await connection.fetchrow(
        "SELECT * FROM ops.history WHERE seconds = 60 AND at = $1", begin + timedelta(minutes=1)
    )
    assert minute is not None
    assert (minute["accepted"], minute["lag"], minute["lags"], minute["streams"]) == (2.5, 5.0, [5, 10], None)


async def test_one_of_two_consoles_writes_and_the_other_takes_over(
    servers: Servers, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PACE", 0.1)
    wrote: list[int] = []

    async def noted(to: asyncpg.Connection, *arguments: Any) -> None:
        wrote.append(to.get_server_pid())
        await write(to, *arguments)

    monkeypatch.setattr(history, "write", noted)

    async def rows(beyond: int) -> int:
        async with asyncio.timeout(PATIENCE):
            while (found := await connection.fetchval("SELECT count(*) FROM ops.history")) <= beyond:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return int(found)

    writers = "SELECT array_agg(DISTINCT l.pid) FROM pg_locks AS l WHERE locktype = 'advisory' AND objid = $1"
    async with AsyncExitStack() as other:
        async with a_console(servers).running():
            await rows(2)
            first = await connection.fetchval(writers, history.LOCK)
            await other.enter_async_context(a_console(servers).running())
            await rows(await rows(0) + 3)
            assert await connection.fetchval(writers, history.LOCK) == first
            assert len(first) == 1
            assert set(wrote) == set(first), "the other one measures, and does not write"
        await rows(await rows(0) + 2)
        assert await connection.fetchval(writers, history.LOCK) != first


async def test_a_console_whose_clock_is_wrong_neither_forgets_the_past_nor_shows_another(
    servers: Servers, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WeeksAhead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "WeeksAhead":
            return super().now(tz) + timedelta(days=21)

    monkeypatch.setattr(history, "PACE", 0.1)
    monkeypatch.setattr(history, "datetime", WeeksAhead)
    await connection.execute(OLD, datetime.now(UTC))
    before = await connection.fetchval("SELECT count(*) FROM ops.history WHERE at > now() - interval '5 hours'")
    async with a_console(servers).running(), asyncio.timeout(PATIENCE):
        while not await connection.fetchval("SELECT count(*) FROM ops.history WHERE lag IS NULL"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    rows = await connection.fetchval("SELECT count(*) FROM ops.history WHERE at > now() - interval '5 hours'")
    assert rows >= before - 2, "but for what became five hours old meanwhile"
    assert await connection.fetchval("SELECT max(at) <= now() FROM ops.history")


async def test_a_console_that_starts_again_shows_what_was_before(
    servers: Servers, connection: asyncpg.Connection
) -> None:
    await write(connection, datetime.now(UTC), dict.fromkeys(COLUMNS, 7.0), [7, 0])
    pool = await asyncpg.create_pool(servers.query_url, min_size=1, max_size=2)
    try:
        anew = a_console(servers)
        for asked in RANGES:
            await anew.series(pool, asked)
        found, lags = json.loads(await anew.series(pool, "15m")), json.loads(await anew.lags(pool, "15m"))
        assert [found[name] for name in ("accepted", "streams")] == [[7.0], [7.0]]
        assert (lags["partition 0"], lags["partition 1"]) == ([7], [0])
    finally:
        await pool.close()
