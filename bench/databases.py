"""Databases of tests and benchmarks, dropped by their owner."""

import asyncpg

_OURS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND usename = current_user"


async def drop_database(admin_url: str, name: str) -> None:
    """Drops it if it exists, and ends the owner's sessions in it.

    `FORCE` is refused while autovacuum is at work there: a worker has no role, so none but a superuser may end it. A
    plain DROP interrupts it, but waits for sessions (CountOtherDBBackends in PostgreSQL's procarray.c).
    """
    connection = await asyncpg.connect(admin_url)
    try:
        try:
            await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        except asyncpg.InsufficientPrivilegeError:
            await connection.execute(_OURS, name)
            await connection.execute(f"DROP DATABASE IF EXISTS {name}")
    finally:
        await connection.close()
