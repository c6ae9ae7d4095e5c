"""Whether a connection pooler stands before PostgreSQL, and whether it leaves each client a session of its own.

A pooler in transaction mode gives every transaction another session: LISTEN hears nothing, an advisory lock is another
client's, prepared statements are missing, settings leak. So such a one is refused at start. A pooler in session mode
works, but takes few settings with the connection: they are set on it (pgbouncer, "ignore_startup_parameters").
"""

from typing import Literal

import asyncpg

CHECK_TIMEOUT = 5.0  # seconds for each step
ROUNDS = 5  # transactions of two clients that must keep their sessions apart

Sessions = Literal["direct", "own", "shared"]

REFUSED = (
    "A connection pooler in transaction or statement mode stands before PostgreSQL (DATABASE_URL): clients share "
    "sessions, so locks, LISTEN, prepared statements and settings are lost between transactions. Connect to PostgreSQL "
    "directly, or set the pooler to session mode (pgbouncer: pool_mode = session)."
)


class SharedSessionsError(Exception):
    """The pooler gives one session to several clients."""

    def __init__(self) -> None:
        super().__init__(REFUSED)


async def sessions_at(url: str) -> Sessions:
    """`url` as asyncpg takes it. direct: no pooler. own: a pooler that leaves each client its session. shared: none.

    Raises OSError, TimeoutError or asyncpg.PostgresError when PostgreSQL cannot be reached.
    """
    first = await _connect(url)
    try:
        try:
            mine = await _backend(first)
        except asyncpg.PostgresConnectionError as error:
            if "statement pooling" in str(error):  # it has no transactions, and ends the connection
                return "shared"
            raise
        if mine == first.get_server_pid():
            return "direct"
        second = await _connect(url)
        try:
            return "shared" if await _share(first, second, mine) else "own"
        finally:
            second.terminate()
    finally:
        first.terminate()


async def _connect(url: str) -> asyncpg.Connection:
    connection: asyncpg.Connection = await asyncpg.connect(
        url, timeout=CHECK_TIMEOUT, command_timeout=CHECK_TIMEOUT, statement_cache_size=0
    )
    return connection


async def _share(first: asyncpg.Connection, second: asyncpg.Connection, mine: int) -> bool:
    """Whether the second is served by the session of the first, or the first by another than before."""
    for _ in range(ROUNDS):
        try:
            if await _backend(second) == mine:
                return True
        except TimeoutError:  # the pool is too small for two sessions at once: so they are not shared
            return False
        if await _backend(first) != mine:
            return True
    return False


async def _backend(connection: asyncpg.Connection) -> int:
    """The process that serves this client's transaction."""
    async with connection.transaction():
        return int(await connection.fetchval("SELECT pg_backend_pid()"))
