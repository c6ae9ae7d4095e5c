"""Reads from PostgreSQL, as the projector's role, what an operator must know of it."""

import time
from typing import Any

from read_model.generations.event_types import event_types_in_use
from telemetry.server_facts import (
    CATALOGUES,
    CLOCK_SKEW,
    CONNECTIONS,
    DATABASE_BYTES,
    DEAD_LETTER_AGE,
    DEAD_LETTERS,
    DEAD_ROWS,
    GENERATIONS,
    INDEX_BYTES,
    MOST_CONNECTIONS,
    OLDEST_TRANSACTION,
    TABLE_BYTES,
    TRANSACTION_AGE,
    WATCHDOG_RESTARTS,
    tell,
)

CAUSES = ("poison", "newer_version", "behind")
STATES = ("active", "building", "paused", "standby", "dropping")
ENDED_BY_WATCHDOG = "watchdog_ended"  # an action in ops.journal
WAIT = "SET LOCAL lock_timeout = '500ms'"  # the size of a table that somebody locks is not worth waiting for

DATABASE = """
SELECT current_database() AS name, pg_database_size(current_database()) AS bytes,
    (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL) AS used,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - current_setting('reserved_connections')::int AS most,
    (SELECT coalesce(extract(epoch FROM now() - min(xact_start)), 0)::float8 FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()
       AND coalesce(backend_type, 'client backend') = 'client backend') AS oldest,
    (SELECT max(greatest(age(datfrozenxid), mxid_age(datminmxid))) FROM pg_database) AS age,
    extract(epoch FROM clock_timestamp())::float8 AS now
"""
TABLES = r"""
SELECT n.nspname, c.relname, pg_table_size(c.oid) AS bytes, pg_indexes_size(c.oid) AS index_bytes,
       coalesce(s.n_dead_tup, 0) AS dead
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_user_tables AS s ON s.relid = c.oid
WHERE c.relkind = 'r' AND n.nspname ~ '^(read_g\d+|ops)$'
"""
LETTERS = """
SELECT cause, count(*) AS count, extract(epoch FROM now() - min(parked_at))::float8 AS oldest
FROM {generation}.dead_letters WHERE kafka_topic = $1 AND state = 'parked' GROUP BY cause
"""
GENERATIONS_BY_STATE = "SELECT state, count(*) AS count FROM ops.generations GROUP BY state"
RESTARTS = "SELECT count(*) FROM ops.journal WHERE action = $1 AND at > now() - interval '1 hour'"


async def show_database(connection: Any) -> None:
    """Shows what concerns the database as a whole."""
    before = time.time()
    row = await connection.fetchrow(DATABASE)
    after = time.time()
    name = (row["name"],)
    ahead = row["now"] - after if row["now"] > after else min(0.0, row["now"] - before)
    tell(DATABASE_BYTES, {name: row["bytes"]})
    tell(CONNECTIONS, {name: row["used"]})
    tell(MOST_CONNECTIONS, {name: row["most"]})
    tell(OLDEST_TRANSACTION, {name: row["oldest"]})
    tell(TRANSACTION_AGE, {name: row["age"]})
    tell(CLOCK_SKEW, {name: ahead})
    tell(WATCHDOG_RESTARTS, {name: await connection.fetchval(RESTARTS, ENDED_BY_WATCHDOG)})


async def show_tables(connection: Any) -> None:
    """Shows the sizes of all tables. Raises LockNotAvailableError while one is locked."""
    async with connection.transaction():
        await connection.execute(WAIT)
        rows = await connection.fetch(TABLES)
    tell(TABLE_BYTES, {(row["nspname"], row["relname"]): row["bytes"] for row in rows})
    tell(INDEX_BYTES, {(row["nspname"], row["relname"]): row["index_bytes"] for row in rows})
    tell(DEAD_ROWS, {(row["nspname"], row["relname"]): row["dead"] for row in rows})


async def show_read_model(connection: Any, generation: str, topic: str) -> None:
    """Shows the dead letters of a generation, and the generations. Raises LockNotAvailableError."""
    async with connection.transaction():
        await connection.execute(WAIT)
        letters = {row["cause"]: row for row in await connection.fetch(LETTERS.format(generation=generation), topic)}
        types = await event_types_in_use(connection)
        states = dict(await connection.fetch(GENERATIONS_BY_STATE))
    tell(DEAD_LETTERS, {(cause,): letters[cause]["count"] if cause in letters else 0 for cause in CAUSES})
    tell(DEAD_LETTER_AGE, {(cause,): letters[cause]["oldest"] if cause in letters else 0 for cause in CAUSES})
    tell(CATALOGUES, {(generation,): len(types)})
    tell(GENERATIONS, {(state,): states.get(state, 0) for state in STATES})
