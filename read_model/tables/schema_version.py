"""Compares the database's schema version with the one that this version of Footfall needs."""

from pathlib import Path

import asyncpg

from read_model.connecting.pool import Connection

AT = "SELECT max(version_num) FROM footfall_migrations"
MIGRATE = "run `footfall migrate` of this version"


class SchemaState:
    """Whether the schema can be used. `detail`: a sentence about a schema that is older or newer, else empty."""

    def __init__(self, *, usable: bool, detail: str = "") -> None:
        self.usable, self.detail = usable, detail


def newest_migration() -> str:
    """Returns the number of this version's newest migration, from the file names: this room imports no migration."""
    versions = Path(__file__).parents[2] / "migrations" / "versions"
    return max(path.name[:4] for path in versions.glob("[0-9][0-9][0-9][0-9]_*.py"))


async def schema_state(connection: Connection | asyncpg.Pool, wanted: str) -> SchemaState:
    """Compares the database's schema with a wanted version.

    A newer schema is usable, because migrations run before the processes are upgraded.

    Args:
        connection: a connection or a pool.
        wanted: the number of the newest migration, from `newest_migration`.
    """
    try:
        found = await connection.fetchval(AT)
    except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError):
        found = None
    if found is None:
        return SchemaState(usable=False, detail=f"the database has no schema that this version knows: {MIGRATE}")
    if found < wanted:
        behind = f"the database's schema is at {found}, behind this version, which needs {wanted}: {MIGRATE}"
        return SchemaState(usable=False, detail=behind)
    ahead = f"the database's schema is at {found}, ahead of this version, which knows {wanted}"
    return SchemaState(usable=True, detail=ahead if found > wanted else "")
