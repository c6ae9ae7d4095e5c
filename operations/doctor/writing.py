"""Can the database be written to: is it a primary with room on its disk, and may our roles do their work?"""

import asyncpg

from operations.doctor.findings import Finding, well_unless
from read_model.generations.register import list_generations
from read_model.names import GENERATION

# `source` is the role's own setting for a role that may only read.
READ_ONLY = """
SELECT pg_is_in_recovery() AS replica, setting = 'on' AND source NOT IN ('user', 'session', 'client') AS forbidden,
       setting = 'on' AS mine, has_database_privilege(current_database(), 'TEMPORARY') AS may_try
FROM pg_settings WHERE name = 'default_transaction_read_only'
"""
# Some pages of a table that nobody sees, and that is gone again when the transaction is rolled back.
SOME_PAGES = """
CREATE TEMPORARY TABLE footfall_doctor ON COMMIT DROP AS SELECT repeat('x', 1900) AS page FROM generate_series(1, 64)
"""
WITHHELD = """
SELECT role, privilege, name FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (role, privilege, name)
WHERE to_regrole(role) IS NOT NULL AND to_regclass(name) IS NOT NULL AND NOT has_table_privilege(role, name, privilege)
"""


async def writable(connection: asyncpg.Connection) -> list[Finding]:
    """Writes are taken: the server is no replica, nobody made it read-only, and its disk has room."""
    row = await connection.fetchrow(READ_ONLY)
    assert row is not None, "PostgreSQL has this setting"
    if row["replica"]:
        remedy = "Point DATABASE_URL to the primary, or promote this server."
        return [Finding("writing", "problem", "This server is a replica: it takes no writes.", remedy)]
    if row["forbidden"]:
        remedy = "ALTER SYSTEM RESET default_transaction_read_only, ALTER DATABASE .. RESET, and reload."
        return [Finding("writing", "problem", "default_transaction_read_only is on: nothing is written.", remedy)]
    if row["mine"] or not row["may_try"]:
        return [Finding("writing", "unknown", "This role may not write.", "Use the owner's.")]
    try:
        await _try(connection)
    except asyncpg.DiskFullError:
        remedy = "Extend the disk, drop a generation (`footfall rebuild drop`), or a slot (see replication slots)."
        return [Finding("writing", "problem", "PostgreSQL's disk is full.", remedy)]
    return [Finding("writing", "well", "Writes are taken, and the disk has room.")]


async def _try(connection: asyncpg.Connection) -> None:
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(SOME_PAGES)
    finally:
        await transaction.rollback()


async def grants(connection: asyncpg.Connection) -> list[Finding]:
    """The roles of the processes may do what the processes do."""
    active = next((each.name for each in await list_generations(connection) if each.state == "active"), GENERATION)
    wanted = [
        *(("footfall_writer", "INSERT", f"{active}.{table}") for table in ("processed_events", "dead_letters")),
        ("footfall_writer", "UPDATE", f"{active}.checkpoints"),
        ("footfall_writer", "INSERT", "ops.journal"),
        *(("footfall_reader", "SELECT", f"read.{view}") for view in ("processed_events", "checkpoints")),
    ]
    rows = await connection.fetch(WITHHELD, *map(list, zip(*wanted, strict=True)))
    found = [
        Finding(
            "grants",
            "problem",
            f"{row['role']} may not {row['privilege']} on {row['name']}.",
            f"GRANT {row['privilege']} ON {row['name']} TO {row['role']};",
        )
        for row in rows
    ]
    return well_unless("grants", found, "Projectors may write, and readers may read.")
