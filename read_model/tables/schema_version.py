"""Whether the database's schema is the one that this version of Footfall was written for."""

from pathlib import Path

import asyncpg

from read_model.generations.register import Connection

AT = "SELECT max(version_num) FROM footfall_migrations"
MIGRATE = "run `footfall migrate` of this version"


class SchemaState:
    """What is to be said of a schema; nothing, when it is the one."""

    def __init__(self, *, usable: bool, detail: str = "") -> None:
        self.usable, self.detail = usable, detail


def needed() -> str:
    """The newest migration that this version brings. Its files are asked, for this room knows no other."""
    versions = Path(__file__).parents[2] / "migrations" / "versions"
    return max(path.name[:4] for path in versions.glob("[0-9][0-9][0-9][0-9]_*.py"))


async def schema_state(connection: Connection | asyncpg.Pool, wanted: str) -> SchemaState:
    """Compares the database with `wanted`. One that is ahead is used: migrations come first when versions change."""
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
