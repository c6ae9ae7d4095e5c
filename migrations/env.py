"""Runs the migrations over asyncpg, on the database of DATABASE_URL (the owner's role) or with the caller's connection.

It imports no project module, because a migration must mean the same for ever, however the code changes.

Only one migration runs at a time. It holds a lock on alembic's own table, which only the owner can take. It uses no
advisory lock, because any session can take an advisory lock and keep it. No wait is endless: after a timeout, the error
names the sessions that hold the lock.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator

import asyncpg
from alembic import context
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection, pool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

# Seconds to wait for a lock that another session holds, unless the caller sets another time. Only the owner can hold
# the first: another migration is at work. A reporter's transaction can hold the second, on views that it has read.
TURN_PATIENCE = 60.0
TABLES_PATIENCE = 8.0
LOCK_NOT_AVAILABLE = "55P03"
VERSIONS = "footfall_migrations"

FIRST_VERSIONS = f"""
CREATE TABLE IF NOT EXISTS {VERSIONS} (
    version_num varchar(32) NOT NULL CONSTRAINT {VERSIONS}_pkc PRIMARY KEY
)
"""
# The connection that holds the lock waits in a transaction; PostgreSQL must not end it for that.
NO_TIMEOUTS = """
SELECT set_config(name, '0', true) FROM pg_settings
WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout', 'statement_timeout')
"""
# Lets the processes read the schema version, so that they can report a schema of another version.
SHOW_VERSION = f"""
DO $$
BEGIN
    IF to_regrole('footfall_reader') IS NOT NULL AND to_regrole('footfall_writer') IS NOT NULL THEN
        GRANT SELECT ON {VERSIONS} TO footfall_reader, footfall_writer;
    END IF;
END $$
"""
HOLDERS = r"""
SELECT DISTINCT format('session %s (role %s, application %s%s)', a.pid, a.usename, coalesce(nullif(
           a.application_name, ''), 'unnamed'), ', since ' || date_trunc('second', a.xact_start)::text) AS who
FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
JOIN pg_class AS c ON c.oid = l.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE l.granted AND l.locktype = 'relation' AND a.datname = current_database() AND a.pid <> pg_backend_pid()
  AND a.backend_type = 'client backend' AND (c.relname = $1 OR n.nspname ~ '^(read|read_g\d+|ops|reporting)$')
LIMIT 5
"""
# Downgrading below these versions loses data that a later upgrade cannot restore. Projections would be empty although
# the checkpoints say otherwise, and other generations and dead letters would be lost.
LOSING = {"0001", "0002", "0003"}
# Below this version, no row says what an event of a declared type means, and none counts such types.
DECLARED_TYPES = "0009"
# Below this version there is no audit log. One that has only its first row says nothing yet.
AUDIT = "0013"
TABLES_OF_DECLARED_TYPES = ("user_activity_types", "activity_hourly_type_users")
GENERATIONS = """
SELECT nspname FROM pg_namespace WHERE nspname ~ '^read_g[1-9][0-9]*$' AND to_regclass(nspname || '.processed_events')
    IS NOT NULL
"""


async def connect() -> asyncpg.Connection:
    """Connects with durable commits, whatever the role's or the database's defaults say.

    With synchronous_commit off, a crash of the server could lose the schema after `footfall migrate` had reported it.
    """
    connection = await open_connection()
    await connection.execute("SET synchronous_commit = on")
    return connection


async def open_connection() -> asyncpg.Connection:
    """Connects with the function that `footfall migrate` passes; without one, to DATABASE_URL."""
    given = context.config.attributes.get("connect")
    if given is not None:
        found: asyncpg.Connection = await given()
        return found
    url = os.environ.get("DATABASE_URL", "")
    if not url:
        sys.exit("DATABASE_URL is not set: give the database owner's URL, postgresql://user:password@host:port/name")
    try:
        return await asyncpg.connect(url.replace("postgresql+asyncpg://", "postgresql://", 1), timeout=10)
    except ValueError:  # do not print its text, which may quote the URL
        sys.exit("DATABASE_URL is not a PostgreSQL URL; `footfall migrate` says why")


def patience_ms(usual: float) -> int:
    seconds: float | None = context.config.attributes.get("patience")
    return round((usual if seconds is None else seconds) * 1000)


async def check_encoding(guard: asyncpg.Connection) -> None:
    """Raises CommandError unless the database's encoding is UTF8: no other encoding can store every event."""
    encoding = guard.get_settings().server_encoding
    if encoding != "UTF8":
        name = await guard.fetchval("SELECT current_database()")
        raise CommandError(
            f"The database {name} is encoded in {encoding}, which cannot hold every event. Create another: "
            "CREATE DATABASE .. TEMPLATE template0 ENCODING 'UTF8'."
        )


async def take_turn(guard: asyncpg.Connection) -> None:
    """Takes the lock for migrations until this connection's transaction ends. Raises CommandError after the timeout."""
    if await guard.fetchval("SELECT to_regclass($1) IS NULL", VERSIONS):
        # Another migration may create the table at the same moment.
        with contextlib.suppress(asyncpg.UniqueViolationError, asyncpg.DuplicateTableError):
            await guard.execute(FIRST_VERSIONS)
    await guard.execute("BEGIN")
    await guard.execute(NO_TIMEOUTS)
    await guard.execute(f"SET LOCAL lock_timeout = {patience_ms(TURN_PATIENCE)}")
    try:
        await guard.execute(f"LOCK TABLE {VERSIONS} IN SHARE UPDATE EXCLUSIVE MODE")
    except asyncpg.LockNotAvailableError:
        await guard.execute("ROLLBACK")
        raise CommandError(f"another migration is running: {await lock_holders(guard)}") from None


async def lock_holders(guard: asyncpg.Connection) -> str:
    found = [row["who"] for row in await guard.fetch(HOLDERS, VERSIONS)]
    return ", ".join(found) or "a session that is gone by now"


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, version_table=VERSIONS, transaction_per_migration=True)
    refuse_losing(context.get_context(), connection)
    connection.exec_driver_sql(f"SET lock_timeout = {patience_ms(TABLES_PATIENCE)}")
    connection.commit()
    with context.begin_transaction():
        context.run_migrations()
    connection.exec_driver_sql(SHOW_VERSION)
    connection.commit()


def refuse_losing(migrations: MigrationContext, connection: Connection) -> None:
    """Checks all steps before the first one runs. Raises CommandError for a downgrade that would lose data."""
    name = "_migrations_fn"  # alembic has no public way to see the steps before they run
    plan = getattr(migrations, name)

    def checked(heads: tuple[str, ...], at: MigrationContext) -> Iterator[object]:
        assert plan is not None
        steps = list(plan(heads, at))
        left = {name for step in steps if getattr(step, "is_downgrade", False) for name in step.from_revisions}
        why = (
            (left & LOSING and what_would_be_lost(connection))
            or (DECLARED_TYPES in left and what_declared_types_would_lose(connection))
            or (AUDIT in left and what_the_audit_log_would_lose(connection))
        )
        if why:
            raise CommandError(
                f"this downgrade is refused: {why}. The read model is disposable: make a new database with the "
                "older version, and let its projectors fill it from Kafka"
            )
        return iter(steps)

    if plan is not None:
        setattr(migrations, name, checked)


def what_would_be_lost(connection: Connection) -> str:
    names = list(connection.execute(text(GENERATIONS)).scalars())
    if names != ["read_g1"]:
        return f"the generations are {', '.join(sorted(names))}, and older versions know only read_g1"
    for table in ("processed_events", "dead_letters"):
        exists = connection.execute(text(f"SELECT to_regclass('read_g1.{table}') IS NOT NULL")).scalar()
        if exists and connection.execute(text(f"SELECT EXISTS (SELECT FROM read_g1.{table})")).scalar():
            return f"read_g1.{table} holds rows, and the rows derived from them would be lost"
    return ""


def what_declared_types_would_lose(connection: Connection) -> str:
    for generation in sorted(connection.execute(text(GENERATIONS)).scalars()):
        for table in TABLES_OF_DECLARED_TYPES:
            if connection.execute(text(f"SELECT EXISTS (SELECT FROM {generation}.{table})")).scalar():
                return f"{generation}.{table} holds rows of event types that the older version does not know"
    return ""


def what_the_audit_log_would_lose(connection: Connection) -> str:
    deeds = connection.execute(text("SELECT count(*) FROM ops.audit WHERE number > 1")).scalar()
    return f"ops.audit holds {deeds} rows of what was done, and they would be lost" if deeds else ""


async def main() -> None:
    guard = await connect()
    try:
        await check_encoding(guard)
        await take_turn(guard)
        engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=pool.NullPool)
        try:
            async with engine.connect() as connection:
                await connection.run_sync(migrate)
                await connection.commit()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            raise CommandError(f"tables to change are in use: {await lock_holders(guard)}") from None
        finally:
            await engine.dispose()
    finally:
        await guard.close()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, version_table=VERSIONS)
    with context.begin_transaction():
        context.run_migrations()
else:
    asyncio.run(main())
