"""One operator at a time; and who holds what an operator waits for.

The lock is on a table that only the owner may lock so (ops.journal, where operators write what they do), not one of
PostgreSQL's advisory locks: those are numbers that any session may take, and keep.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from read_model.generations.register import Connection

PATIENCE = 5.0  # seconds; an autovacuum of the table, which steps aside for us, takes one to notice

# A session that waits in a transaction must not be ended for it. Which of these there are depends on the version.
NO_TIMEOUTS = """
SELECT set_config(name, '0', true) FROM pg_settings
WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout', 'statement_timeout')
"""
# Shuts out itself, and no reading or writing.
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
    """Somebody else holds it; the text names them."""


async def holders(connection: Connection, tables: str, *, strong: bool) -> str:
    """The sessions that hold locks on tables whose `schema.name` matches. `strong`: only locks that shut out others."""
    found = await connection.fetch(HOLDERS, tables, strong)
    return ", ".join(_named(row) for row in found) or "a session that is gone by now"


def _named(row: asyncpg.Record) -> str:
    since = "" if row["since"] is None else f", since {row['since']:%Y-%m-%d %H:%M:%S} UTC"
    return f"session {row['pid']} (role {row['role']}, application {row['application'] or 'unnamed'}{since})"


async def take(connection: Connection) -> None:
    """Takes the operators' lock for the transaction that the connection is in. Raises HeldError."""
    await connection.execute(NO_TIMEOUTS)
    await connection.execute(f"SET LOCAL lock_timeout = {round(PATIENCE * 1000)}")
    try:
        async with connection.transaction():
            await connection.execute(LOCK)
    except asyncpg.LockNotAvailableError:
        who = await holders(connection, r"^ops\.journal$", strong=True)
        raise HeldError(f"Another operator's command is at work: {who}. Try again when it has ended.") from None
    await connection.execute("SET LOCAL lock_timeout = 0")


@asynccontextmanager
async def alone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """No other operator is at work during the body. The connection is used for nothing else."""
    async with connection.transaction():
        await take(connection)
        yield
