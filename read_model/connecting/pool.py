"""Opens connections and pools to PostgreSQL, and checks that the database can be used."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
from asyncpg.pool import PoolAcquireContext, PoolConnectionProxy

from read_model.connecting.database_url import Url, parse_now
from read_model.connecting.pooler import SharedSessionsError, detect_sessions
from read_model.connecting.unavailable import DATABASE_UNAVAILABLE

Connection = PoolConnectionProxy | asyncpg.Connection

CONNECT_TIMEOUT = 10.0  # seconds, unless the URL names another timeout
CLOSE_TIMEOUT = 5.0  # seconds; a silent connection would delay the close for ever
RELEASE_TIMEOUT = 5.0  # seconds to return a connection, at most

ENCODING = "UTF8"  # no other encoding can store every event; some valid events would look like poison events


# asyncpg parses and plans a statement of more than 15 KiB each time, unless told otherwise. The projector's commit is
# longer, and became 3 ms slower when it passed that size.
LONGEST_KEPT_STATEMENT = 0  # characters; 0: any

# What `asyncpg.create_pool` has for what is not named; its class has no defaults.
ASYNCPGS_OWN: dict[str, Any] = {
    "init_size": None,
    "max_queries": 50_000,
    "max_inactive_connection_lifetime": 300.0,
    "loop": None,
    "connection_class": asyncpg.Connection,
    "record_class": asyncpg.Record,
}


class UnfitDatabaseError(ValueError):
    """The database can be reached but not used. The text says why, and what to do."""


class _Acquired(PoolAcquireContext):
    """Keeps no session that turned out to be read-only: it stays so for ever, whatever the server is by now."""

    __slots__ = ()

    async def __aexit__(self, *raised: object) -> None:
        is_read_only = any(isinstance(each, asyncpg.ReadOnlySQLTransactionError) for each in raised)
        if is_read_only and self.connection is not None:
            self.connection.terminate()
        await super().__aexit__(*raised)


class _Pool(asyncpg.Pool):
    """A pool to which every connection returns, or is dropped, soon.

    asyncpg waits for the server's answer as long as `acquire` was allowed to wait, and for ever if it named no limit: a
    session that went silent would hold up its user, and the end of the process.

    `release` raises no error of a connection that is lost: asyncpg has dropped that connection, and its user is done.
    Raised while a task is being cancelled, the error would replace the CancelledError; a loop that catches errors of
    the database would then go on, and whoever waits for its end would wait for ever.
    """

    def acquire(self, *, timeout: float | None = None) -> PoolAcquireContext:
        return _Acquired(self, timeout)

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:
        named = connection._holder._timeout if timeout is None else timeout  # noqa: SLF001 - asyncpg's default
        with suppress(*DATABASE_UNAVAILABLE):
            await super().release(connection, timeout=RELEASE_TIMEOUT if named is None else min(named, RELEASE_TIMEOUT))


async def _check_encoding(connection: asyncpg.Connection) -> None:
    """Checks the database's encoding, without a round trip: PostgreSQL sends it when a connection starts."""
    encoding = connection.get_settings().server_encoding
    if encoding != ENCODING:
        name = await connection.fetchval("SELECT current_database()")
        raise UnfitDatabaseError(
            f"The database {name} is encoded in {encoding}, which cannot hold every event. Create another: "
            f"CREATE DATABASE .. TEMPLATE template0 ENCODING '{ENCODING}'."
        )


async def connect(
    database_url: Url,
    application: str,
    *,
    query_timeout: float | None = None,
    settings: Mapping[str, str] | None = None,
) -> asyncpg.Connection:
    """Opens one connection, whose session runs in UTC.

    Args:
        database_url: the URL; its `connect_timeout` overrides `CONNECT_TIMEOUT`.
        application: the session's application name.
        query_timeout: default timeout of each statement in seconds; None: none.
        settings: settings of the session.

    Raises:
        OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError: the connection failed.
    """
    url = parse_now(database_url)
    connection: asyncpg.Connection = await asyncpg.connect(
        url.driver(),
        timeout=url.connect_timeout or CONNECT_TIMEOUT,
        command_timeout=query_timeout,
        server_settings={"application_name": application, "timezone": "UTC", **(settings or {})},
        max_cacheable_statement_size=LONGEST_KEPT_STATEMENT,
    )
    return connection


async def open_pool(  # noqa: PLR0913 - each argument is one property of a pool
    database_url: Url,
    *,
    application: str,
    min_size: int,
    max_size: int,
    query_timeout: float | None = None,
    server_settings: dict[str, str] | None = None,
    stateless: bool = False,
    setup: Any = None,
) -> asyncpg.Pool:
    """Opens an asyncpg pool whose sessions run in UTC.

    Args:
        database_url: the URL; its `connect_timeout` overrides `CONNECT_TIMEOUT`. A secret is read for each connection.
        application: the sessions' application name.
        min_size: connections that are opened now and kept.
        max_size: connections at most.
        query_timeout: seconds until a statement fails with TimeoutError, unless the call names another timeout.
        server_settings: settings of every session.
        stateless: users of a connection leave no state in its session (SET, LISTEN, locks, cursors), so that returning
            it needs no round trip.
        setup: a coroutine function that is called with a connection each time it is acquired. The code that acquires
            the connection gets its errors.

    Raises:
        OSError, asyncpg.PostgresError: the first `min_size` connections cannot be opened.
        UnfitDatabaseError: the database's encoding is not UTF8.
        SharedSessionsError: the server is behind a pooler in transaction mode.
    """
    url, settings = parse_now(database_url), server_settings or {}
    sessions = await detect_sessions(url.driver())
    if sessions == "shared":
        raise SharedSessionsError
    pool: asyncpg.Pool = await _Pool(
        url.driver(),
        **ASYNCPGS_OWN,
        max_cacheable_statement_size=LONGEST_KEPT_STATEMENT,
        min_size=min_size,
        max_size=max_size,
        timeout=url.connect_timeout or CONNECT_TIMEOUT,
        command_timeout=query_timeout,
        setup=setup,
        connect=_connecting_by(database_url),
        server_settings={"application_name": application, "timezone": "UTC"}
        | (settings if sessions == "direct" else {}),
        **_hooks(settings if sessions == "own" else {}, stateless=stateless),
    )
    return pool


def _connecting_by(database_url: Url) -> Any:
    """Returns what a pool opens connections with: the URL is read for each."""

    async def opened(_first_url: str, **arguments: Any) -> asyncpg.Connection:
        connection: asyncpg.Connection = await asyncpg.connect(parse_now(database_url).driver(), **arguments)
        return connection

    return opened


def _hooks(settings: dict[str, str], *, stateless: bool) -> dict[str, Any]:
    """Returns the pool's hooks for new and for returned connections, which keep the settings in every session."""
    values = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())

    async def init(connection: asyncpg.Connection) -> None:
        await _check_encoding(connection)
        await connection.execute(f"SELECT {values}")

    async def reset(connection: Connection) -> None:
        await connection.execute(f"{connection.get_reset_query()}; SELECT {values}")

    if not settings:
        return {"init": _check_encoding, "reset": _no_reset if stateless else None}
    return {"init": init, "reset": _no_reset if stateless else reset}


async def _no_reset(_connection: Connection) -> None:
    """Resets nothing. asyncpg itself still rolls back a transaction that was left open."""


@asynccontextmanager
async def closing(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Pool]:
    """Closes the pool after the body, and terminates it if closing takes longer than `CLOSE_TIMEOUT` seconds."""
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await pool.close()
        except TimeoutError:
            pool.terminate()
