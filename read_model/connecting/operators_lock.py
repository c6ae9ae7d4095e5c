"""The operators' lock: one operator's command at a time. Also finds the sessions that hold a lock.

The lock is a table lock on ops.journal, where operators record their actions. Only the owner may take it in this mode.
It is not an advisory lock, because any session can take an advisory lock and keep it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from read_model.connecting.pool import Connection

PATIENCE = 5.0  # seconds; an autovacuum of the table gives way to us, and takes about one second to notice

# Our session waits in a transaction and must not be ended for it. PostgreSQL's version decides which settings exist.
NO_TIMEOUTS = """
SELECT set_config(name, '0', true) FROM pg_settings
WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout', 'statement_timeout')
"""
# This mode conflicts with itself, and with no reader or writer.
LOCK = "LOCK TABLE ops.journal IN SHARE UPDATE EXCLUSIVE MODE"

HOLDERS = """
SELECT DISTINCT a.pid, a.usename::text AS role, a.application_name AS application, a.xact_start AS since
FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
JOIN pg_class AS c ON c.oid = l.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE l.granted AND l.locktype = 'relation' AND a.datname = current_database() AND a.pid <> pg_backend_pid()
  AND format('%s.%s', n.nspname, c.relname) ~ $1 AND a.backend_type <> 'autovacuum worker'
  AND (NOT $2 OR l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock'))
ORDER BY since LIMIT 5
"""


class HeldError(Exception):
    """Another session holds the operators' lock; the text names the session."""


async def lock_holders(connection: Connection, tables: str, *, strong: bool) -> str:
    """Names the sessions that hold locks on some tables.

    Args:
        connection: a connection to the same database.
        tables: a regular expression on `schema.name`.
        strong: only sessions whose lock blocks readers or writers.

    Returns:
        The sessions in words, up to five.
    """
    found = await connection.fetch(HOLDERS, tables, strong)
    return ", ".join(_describe(row) for row in found) or "a session that is gone by now"


def _describe(row: asyncpg.Record) -> str:
    since = "" if row["since"] is None else f", since {row['since']:%Y-%m-%d %H:%M:%S} UTC"
    return f"session {row['pid']} (role {row['role']}, application {row['application'] or 'unnamed'}{since})"


async def take_operators_lock(connection: Connection) -> None:
    """Takes the operators' lock until the end of the connection's current transaction. Raises HeldError."""
    await connection.execute(NO_TIMEOUTS)
    await connection.execute(f"SET LOCAL lock_timeout = {round(PATIENCE * 1000)}")
    try:
        async with connection.transaction():
            await connection.execute(LOCK)
    except asyncpg.LockNotAvailableError:
        who = await lock_holders(connection, r"^ops\.journal$", strong=True)
        raise HeldError(f"Another operator's command is running: {who}. Try again when it has ended.") from None
    await connection.execute("SET LOCAL lock_timeout = 0")


@asynccontextmanager
async def exclusive(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Holds the operators' lock during the body, on a connection that nothing else uses meanwhile. Raises HeldError."""
    async with connection.transaction():
        await take_operators_lock(connection)
        yield
