"""Connections to PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from read_model.connecting.database_url import parse
from read_model.connecting.pooler import SharedSessionsError, sessions_at

Connection = PoolConnectionProxy | asyncpg.Connection

CONNECT_TIMEOUT = 10.0  # seconds, unless the URL names another
CLOSE_TIMEOUT = 5.0  # seconds; a connection gone silent would hold up the close for ever


ENCODING = "UTF8"  # any other cannot hold every event, and sound ones would look like poison


class UnfitDatabaseError(ValueError):
    """The database is there, and cannot be used. The text says why, and what to do."""


async def _check_encoding(connection: asyncpg.Connection) -> None:
    """Costs no round trip while all is well: PostgreSQL tells its encoding whenever a connection begins."""
    encoding = connection.get_settings().server_encoding
    if encoding != ENCODING:
        name = await connection.fetchval("SELECT current_database()")
        raise UnfitDatabaseError(
            f"The database {name} is encoded in {encoding}, which cannot hold every event. Create another: "
            f"CREATE DATABASE .. TEMPLATE template0 ENCODING '{ENCODING}'."
        )


async def connect(
    database_url: str,
    application: str,
    *,
    query_timeout: float | None = None,
    settings: Mapping[str, str] | None = None,
) -> asyncpg.Connection:
    """One connection, whose session runs in UTC, carries `application` as its name and has these `settings`.

    Raises OSError, TimeoutError, asyncpg.PostgresError or asyncpg.InterfaceError.
    """
    url = parse(database_url)
    connection: asyncpg.Connection = await asyncpg.connect(
        url.driver(),
        timeout=url.connect_timeout or CONNECT_TIMEOUT,
        command_timeout=query_timeout,
        server_settings={"application_name": application, "timezone": "UTC", **(settings or {})},
    )
    return connection


async def open_pool(  # noqa: PLR0913 - each says one thing of a pool
    database_url: str,
    *,
    application: str,
    min_size: int,
    max_size: int,
    query_timeout: float | None = None,
    server_settings: dict[str, str] | None = None,
    stateless: bool = False,
    setup: Any = None,
) -> asyncpg.Pool:
    """An asyncpg pool whose sessions run in UTC and carry `application` as their name.

    `query_timeout`: seconds after which a statement is given up with TimeoutError, where the call names no other.
    `stateless`: whoever takes a connection leaves nothing behind in its session (SET, LISTEN, locks, cursors), so that
    giving it back costs no round trip.
    `setup`: a coroutine function, called with each connection before it is lent; whoever asked gets what it raises.

    Raises OSError or asyncpg.PostgresError when the first `min_size` connections cannot be made, and
    UnfitDatabaseError when the database is not UTF8, SharedSessionsError behind a pooler in transaction mode.
    """
    url, settings = parse(database_url), server_settings or {}
    sessions = await sessions_at(url.driver())
    if sessions == "shared":
        raise SharedSessionsError
    pool: asyncpg.Pool = await asyncpg.create_pool(
        url.driver(),
        min_size=min_size,
        max_size=max_size,
        timeout=url.connect_timeout or CONNECT_TIMEOUT,
        command_timeout=query_timeout,
        setup=setup,
        server_settings={"application_name": application, "timezone": "UTC"}
        | (settings if sessions == "direct" else {}),
        **_hooks(settings if sessions == "own" else {}, stateless=stateless),
    )
    return pool


def _hooks(settings: dict[str, str], *, stateless: bool) -> dict[str, Any]:
    """What a pool does with a new connection and with one that comes back, to have these settings in every session."""
    values = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())

    async def set_up(connection: asyncpg.Connection) -> None:
        await _check_encoding(connection)
        await connection.execute(f"SELECT {values}")

    async def set_back(connection: Connection) -> None:
        await connection.execute(f"{connection.get_reset_query()}; SELECT {values}")

    if not settings:
        return {"init": _check_encoding, "reset": _leave_as_it_is if stateless else None}
    return {"init": set_up, "reset": _leave_as_it_is if stateless else set_back}


async def _leave_as_it_is(_connection: Connection) -> None:
    """asyncpg itself still ends a transaction that was left open."""


@asynccontextmanager
async def closing(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Pool]:
    """The pool for the body; afterwards it is closed, or torn down when that takes longer than `CLOSE_TIMEOUT`."""
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await pool.close()
        except TimeoutError:
            pool.terminate()
