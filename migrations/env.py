"""Runs the migrations over asyncpg, on the database of DATABASE_URL (the owner's role) or of the caller's config.

It names no project module: a migration must mean the same for ever, whatever the code has become.
"""

import asyncio
import os
import sys

import asyncpg
from alembic import context
from sqlalchemy import Connection, pool
from sqlalchemy.ext.asyncio import create_async_engine

LOCK_KEY = 0x_F007_FA11  # two migrate jobs at once: the second waits, then finds nothing to do


async def connect() -> asyncpg.Connection:
    """As the caller does, if it is `footfall migrate`; else to DATABASE_URL."""
    given = context.config.attributes.get("connect")
    if given is not None:
        found: asyncpg.Connection = await given()
        return found
    url = os.environ.get("DATABASE_URL", "")
    if not url:
        sys.exit("DATABASE_URL is not set: give the database owner's URL, postgresql://user:password@host:port/name")
    try:
        return await asyncpg.connect(url.replace("postgresql+asyncpg://", "postgresql://", 1), timeout=10)
    except ValueError:  # its text may quote the URL
        sys.exit("DATABASE_URL is no PostgreSQL URL; `footfall migrate` says why")


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, version_table="footfall_migrations", transaction_per_migration=True)
    connection.exec_driver_sql(f"SELECT pg_advisory_lock({LOCK_KEY})")
    connection.commit()  # the lock belongs to the session, not to a transaction
    with context.begin_transaction():
        context.run_migrations()


async def main() -> None:
    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
        await connection.commit()
    await engine.dispose()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, version_table="footfall_migrations")
    with context.begin_transaction():
        context.run_migrations()
else:
    asyncio.run(main())
