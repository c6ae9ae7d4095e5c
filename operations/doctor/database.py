"""What can be wrong with PostgreSQL. Each check reads the system catalogues, as any role, and changes nothing."""

import time

import asyncpg

from operations.doctor.certificates import of_postgresql
from operations.doctor.findings import Check, Finding, well_unless
from operations.doctor.role_limits import role_limits
from operations.doctor.writing import grants, writable
from read_model.names import READ
from read_model.tables.schema_version import newest_migration, schema_state

OLDEST_VERSION = 18
LONG_TRANSACTION = 300  # seconds
MANY_TRANSACTIONS = (1_000_000_000, 1_600_000_000)  # age of the oldest: warning, problem; PostgreSQL stops at 2^31
MANY_DEAD_ROWS, DEAD_SHARE = 100_000, 0.2
CONNECTIONS_SHARE = 0.8
QUEUE_SHARE = 0.5
KEPT_WAL = 1 << 30  # bytes
CLOCK_SKEW = 2.0  # seconds, beside the time that the question takes

ROLES = ("footfall_reader", "footfall_writer")
OURS = r"^(read|read_g\d+|ops|reporting|public)$"

MISSING_ROLES = "SELECT name FROM unnest($1::text[]) AS name WHERE to_regrole(name) IS NULL"
INVALID_INDEXES = """
SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE NOT (i.indisvalid AND i.indisready) AND n.nspname ~ $1 ORDER BY name
"""
TRANSACTIONS = """
SELECT pid, usename, application_name, state, extract(epoch FROM now() - xact_start)::float8 AS open_for
FROM pg_stat_activity
WHERE datname = current_database() AND coalesce(backend_type, 'client backend') = 'client backend'
  AND pid <> pg_backend_pid()  -- of another role's session, a role that may not look sees the existence only
"""
AGES = """
SELECT datname, greatest(age(datfrozenxid), mxid_age(datminmxid)) AS age FROM pg_database ORDER BY age DESC LIMIT 1
"""
DEAD_ROWS = """
SELECT format('%I.%I', schemaname, relname) AS name, n_dead_tup, n_live_tup FROM pg_stat_user_tables
WHERE schemaname ~ $1 AND n_dead_tup > $2 AND n_dead_tup > $3 * (n_live_tup + n_dead_tup) ORDER BY n_dead_tup DESC
"""
CONNECTIONS = """
SELECT (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL) AS used,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
       - current_setting('reserved_connections')::int AS most
"""
DURABILITY = (
    "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name"
)
SLOTS = """
SELECT slot_name, pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)) AS kept
FROM pg_replication_slots WHERE NOT active AND pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) > $1
"""
# Of the last events of each partition: a range of one index for each.
AHEAD = f"""
SELECT max(extract(epoch FROM newest.recorded_at - clock_timestamp()))::float8
FROM {READ}.checkpoints AS c CROSS JOIN LATERAL (
    SELECT recorded_at FROM {READ}.processed_events AS e
    WHERE e.kafka_topic = c.topic AND e.kafka_partition = c.partition AND e.kafka_offset >= c.next_offset - 200
) AS newest
"""  # noqa: S608 - composed of constants
SIZE = "SELECT pg_size_pretty(pg_database_size(current_database()))"


async def version(connection: asyncpg.Connection) -> list[Finding]:
    """PostgreSQL is new enough."""
    number = await connection.fetchval("SHOW server_version")
    said = f"It is version {number}; the database takes {await connection.fetchval(SIZE)}."
    if connection.get_server_version().major >= OLDEST_VERSION:
        return [Finding("PostgreSQL", "well", said)]
    return [Finding("PostgreSQL", "problem", said, f"Footfall needs PostgreSQL {OLDEST_VERSION} or newer.")]


async def schema(connection: asyncpg.Connection) -> list[Finding]:
    """The schema is the one that this version needs, and its roles are there."""
    state = await schema_state(connection, newest_migration())
    if not state.usable:
        return [Finding("schema", "problem", f"{state.detail[0].upper()}{state.detail[1:]}.")]
    if state.detail:
        sentence = f"{state.detail[0].upper()}{state.detail[1:]}."
        return [Finding("schema", "warning", sentence, "Upgrade Footfall's processes and this command.")]
    missing = [row["name"] for row in await connection.fetch(MISSING_ROLES, list(ROLES))]
    remedy = "Run `footfall migrate` as a role with CREATEROLE."
    found = [Finding("schema", "problem", f"The role {name} is missing.", remedy) for name in missing]
    return well_unless("schema", found, f"It is at {newest_migration()}, as this version needs.")


async def indexes(connection: asyncpg.Connection) -> list[Finding]:
    """Every index is valid: a query that needs an invalid one reads the whole table."""
    names = [row["name"] for row in await connection.fetch(INVALID_INDEXES, OURS)]
    found = [
        Finding("indexes", "problem", f"The index {name} is invalid.", f"REINDEX INDEX CONCURRENTLY {name};")
        for name in names
    ]
    return well_unless("indexes", found, "All are valid.")


async def transactions(connection: asyncpg.Connection) -> list[Finding]:
    """No transaction is open for long: it keeps dead rows, holds locks, and fills the notification queue."""
    rows = await connection.fetch(TRANSACTIONS)
    found = [
        Finding(
            "transactions",
            "warning",
            f"Session {row['pid']} of {row['usename']} ({row['application_name'] or 'no application name'}) has a "
            f"transaction open for {row['open_for']:.0f} s.",
            f"End its work, or the session: SELECT pg_terminate_backend({row['pid']});",
        )
        for row in rows
        if row["open_for"] is not None and row["open_for"] > LONG_TRANSACTION
    ]
    hidden = sum(row["state"] is None for row in rows)
    if hidden:
        says = f"{hidden} sessions of other roles cannot be looked into."
        found.append(Finding("transactions", "unknown", says, "Grant this role pg_monitor, or use the owner's."))
    return well_unless("transactions", found, f"None is open for more than {LONG_TRANSACTION} s.")


async def wraparound(connection: asyncpg.Connection) -> list[Finding]:
    """The oldest transaction id is young enough: at the end of the ids, PostgreSQL takes no writes."""
    row = await connection.fetchrow(AGES)
    assert row is not None, "there is a database: this one"
    says = f"The oldest transaction id, in the database {row['datname']}, is {row['age']:,} transactions old."
    soon, late = MANY_TRANSACTIONS
    if row["age"] < soon:
        return [Finding("wraparound", "well", says)]
    remedy = "Run VACUUM (FREEZE) there, and find out what holds autovacuum up: long transactions, slots, settings."
    return [Finding("wraparound", "problem" if row["age"] >= late else "warning", says, remedy)]


async def dead_rows(connection: asyncpg.Connection) -> list[Finding]:
    """No table is full of dead rows."""
    found = [
        Finding(
            "dead rows",
            "warning",
            f"{row['name']} has {row['n_dead_tup']:,} dead rows beside {row['n_live_tup']:,} live ones.",
            f"VACUUM {row['name']}; and look what keeps autovacuum from it.",
        )
        for row in await connection.fetch(DEAD_ROWS, OURS, MANY_DEAD_ROWS, DEAD_SHARE)
    ]
    return well_unless("dead rows", found, "No table has many.")


async def connections(connection: asyncpg.Connection) -> list[Finding]:
    """Connections are left."""
    row = await connection.fetchrow(CONNECTIONS)
    assert row is not None, "a query without a table has a row"
    says = f"{row['used']} of {row['most']} connections are in use."
    if row["used"] < CONNECTIONS_SHARE * row["most"]:
        return [Finding("connections", "well", says)]
    remedy = "Lower QUERY_POOL_SIZE or MAX_EXPORTS, end idle sessions, or raise max_connections."
    return [Finding("connections", "warning", says, remedy)]


async def durability(connection: asyncpg.Connection) -> list[Finding]:
    """PostgreSQL survives a crash of its machine."""
    off = [row["name"] for row in await connection.fetch(DURABILITY)]
    remedy = "Set it to on in postgresql.conf, or be ready to rebuild the read model after a crash."
    found = [
        Finding("durability", "problem", f"{name} is off: a crash may corrupt the tables.", remedy) for name in off
    ]
    return well_unless("durability", found, "fsync and full_page_writes are on.")


async def notifications(connection: asyncpg.Connection) -> list[Finding]:
    """The notification queue is not filling: when it is full, readers are no longer woken."""
    share = await connection.fetchval("SELECT pg_notification_queue_usage()")
    says = f"The notification queue is filled to {share:.0%}."
    if share < QUEUE_SHARE:
        return [Finding("notifications", "well", says)]
    remedy = "A session listens in an open transaction: end it (see transactions)."
    return [Finding("notifications", "warning", says, remedy)]


async def slots(connection: asyncpg.Connection) -> list[Finding]:
    """No replication slot that nobody reads keeps the write-ahead log."""
    if await connection.fetchval("SELECT pg_is_in_recovery()"):
        return [Finding("replication slots", "unknown", "This is a replica.", "Ask the primary.")]
    found = [
        Finding(
            "replication slots",
            "warning",
            f"The slot {row['slot_name']} has no reader and keeps {row['kept']} of the write-ahead log.",
            f"Start its reader, or drop it: SELECT pg_drop_replication_slot('{row['slot_name']}');",
        )
        for row in await connection.fetch(SLOTS, KEPT_WAL)
    ]
    return well_unless("replication slots", found, "None keeps the write-ahead log for nobody.")


async def clock(connection: asyncpg.Connection) -> list[Finding]:
    """The clocks here and there agree: times of events and lags are compared across machines."""
    before = time.time()
    there = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
    after = time.time()
    ahead = there - after if there > after else min(0.0, there - before)
    if abs(ahead) <= CLOCK_SKEW:
        return [Finding("clock", "well", f"PostgreSQL's clock and the one here agree within {CLOCK_SKEW:.0f} s.")]
    word = "ahead of" if ahead > 0 else "behind"
    says = f"PostgreSQL's clock is {abs(ahead):.1f} s {word} the one here."
    return [Finding("clock", "problem", says, "Synchronise the clocks of all machines (NTP).")]


async def producers_clocks(connection: asyncpg.Connection) -> list[Finding]:
    """No event bears a time that has not come yet: then it counts in another hour, day and session than it should."""
    ahead = await connection.fetchval(AHEAD)
    if ahead is None or ahead <= CLOCK_SKEW:
        return [Finding("clocks of producers", "well", "No event of late bears a time that has not come yet.")]
    says = f"Events of late bear times up to {ahead:.1f} s ahead of PostgreSQL's clock."
    remedy = "Synchronise the clocks (NTP): that of a command side, or of a producer of your own, is ahead."
    return [Finding("clocks of producers", "problem", says, remedy)]


CHECKS: dict[str, Check[asyncpg.Connection]] = {
    "PostgreSQL": version,
    "schema": schema,
    "indexes": indexes,
    "transactions": transactions,
    "wraparound": wraparound,
    "dead rows": dead_rows,
    "connections": connections,
    "durability": durability,
    "notifications": notifications,
    "replication slots": slots,
    "clock": clock,
    "clocks of producers": producers_clocks,
    "writing": writable,
    "grants": grants,
    "limits of roles": role_limits,
    "PostgreSQL's certificate": of_postgresql,
}
