"""How readers learn that the read model moved: a notification after each transaction that moves what queries see.

It says only that there is something to look at. Readers look by position, so a notification lost, late or repeated
costs time and nothing else. It is never part of the transaction that it tells of: PostgreSQL has one queue of
notifications, any session can fill it, and then the COMMIT of a transaction that notifies fails (decision record
"Readers are told beside the batch").
"""

import contextlib

import asyncpg
from asyncpg.pool import PoolConnectionProxy

CHANNEL = "footfall_progress"

WAKE = f"SELECT pg_notify('{CHANNEL}', '')"

# What happens in a generation that no query sees wakes nobody, and keeps off PostgreSQL's one queue of notifications.
WAKE_IF_ACTIVE = f"""
SELECT CASE WHEN (SELECT state FROM ops.generations WHERE name = '{{generation}}') = 'active'
            THEN pg_notify('{CHANNEL}', '') END
"""


async def tell_readers(connection: PoolConnectionProxy | asyncpg.Connection) -> None:
    """Wakes readers, outside any transaction. What was committed is committed: a failure here is nobody's."""
    with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
        await connection.execute(WAKE)
