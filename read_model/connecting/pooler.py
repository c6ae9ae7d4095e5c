"""Detects a connection pooler in front of PostgreSQL, and whether it gives each client a session of its own.

A pooler in transaction mode gives each transaction another session: LISTEN receives nothing, advisory locks belong to
other clients, prepared statements are missing and settings leak. So it is refused at start. A pooler in session mode
works, but accepts few settings when connecting (pgbouncer, "ignore_startup_parameters"), so they are set afterwards.
"""

from typing import Literal

import asyncpg

CHECK_TIMEOUT = 5.0  # seconds for each step
ROUNDS = 5  # transactions of two clients, which must not share a session in any round

Sessions = Literal["direct", "own", "shared"]

REFUSED = (
    "A connection pooler in transaction or statement mode stands before PostgreSQL (DATABASE_URL): clients share "
    "sessions, so locks, LISTEN, prepared statements and settings are lost between transactions. Connect to PostgreSQL "
    "directly, or set the pooler to session mode (pgbouncer: pool_mode = session)."
)


class SharedSessionsError(Exception):
    """The pooler shares one session among several clients."""

    def __init__(self) -> None:
        super().__init__(REFUSED)


async def detect_sessions(url: str) -> Sessions:
    """Detects how clients get their sessions.

    Args:
        url: a URL that asyncpg accepts.

    Returns:
        "direct": there is no pooler. "own": a pooler gives each client a session of its own. "shared": clients of the
        pooler share sessions.

    Raises:
        OSError, TimeoutError, asyncpg.PostgresError: PostgreSQL cannot be reached.
    """
    first = await _connect(url)
    try:
        try:
            first_pid = await _backend_pid(first)
        except asyncpg.PostgresConnectionError as error:
            if "statement pooling" in str(error):  # the pooler refuses transactions and closes the connection
                return "shared"
            raise
        if first_pid == first.get_server_pid():
            return "direct"
        second = await _connect(url)
        try:
            return "shared" if await _share_a_session(first, second, first_pid) else "own"
        finally:
            second.terminate()
    finally:
        first.terminate()


async def _connect(url: str) -> asyncpg.Connection:
    connection: asyncpg.Connection = await asyncpg.connect(
        url, timeout=CHECK_TIMEOUT, command_timeout=CHECK_TIMEOUT, statement_cache_size=0
    )
    return connection


async def _share_a_session(first: asyncpg.Connection, second: asyncpg.Connection, first_pid: int) -> bool:
    """Returns whether the second client gets the first client's session, or the first client gets a new one."""
    for _ in range(ROUNDS):
        try:
            if await _backend_pid(second) == first_pid:
                return True
        except TimeoutError:  # the pooler has no second session to give, so it does not share the first
            return False
        if await _backend_pid(first) != first_pid:
            return True
    return False


async def _backend_pid(connection: asyncpg.Connection) -> int:
    """Returns the id of the server process that serves this client's transaction."""
    async with connection.transaction():
        return int(await connection.fetchval("SELECT pg_backend_pid()"))
