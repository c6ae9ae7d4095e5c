"""How a migrated schema differs from the declared one."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from read_model.names import GENERATION
from read_model.tables import dead_letters as dead_letter_table
from read_model.tables import projections as projection_tables
from read_model.tables.processed_events import metadata

DECLARED = (dead_letter_table.dead_letters, projection_tables.user_activity)  # importing them fills `metadata`


def differences(connection: Connection) -> list[object]:
    def ours(_name: str | None, kind: str, parents: object) -> bool:
        assert isinstance(parents, dict)
        return kind == "schema" or parents.get("schema_name") == GENERATION

    context = MigrationContext.configure(
        connection,
        opts={"include_schemas": True, "include_name": ours, "compare_type": True, "compare_server_default": True},
    )
    return list(compare_metadata(context, metadata))


async def schema_differences(url: str) -> list[object]:
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://", 1))
    async with engine.connect() as connection:
        found = await connection.run_sync(differences)
    await engine.dispose()
    return found
