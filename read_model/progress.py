"""Notifies readers after each transaction that changes what queries see.

A notification says only that there is something new. Readers then read from their position, so a lost, late or repeated
notification costs only time. The notification is never part of the transaction it reports: PostgreSQL has one queue of
notifications, any session can fill it, and then the COMMIT of a transaction that notifies fails (docs/decisions/0019).
"""

import contextlib

import asyncpg

from read_model.connecting.pool import Connection

CHANNEL = "footfall_progress"

WAKE = f"SELECT pg_notify('{CHANNEL}', '')"

# A generation that no query sees notifies nobody, so it adds nothing to PostgreSQL's one queue of notifications.
WAKE_IF_ACTIVE = f"""
SELECT CASE WHEN (SELECT state FROM ops.generations WHERE name = '{{generation}}') = 'active'
            THEN pg_notify('{CHANNEL}', '') END
"""


async def notify_readers(connection: Connection) -> None:
    """Notifies readers, outside any transaction. It ignores errors, because the change is already committed."""
    with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
        await connection.execute(WAKE)
