"""Creates a generation's schema, drops it, and points the views at it (docs/decisions/0008).

Only the migrations define the tables of a generation. So a new generation is copied from PostgreSQL's catalog, with the
same names. All statements here need the role that owns the database.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from read_model.connecting.pool import Connection
from read_model.names import READ

TABLES = """
SELECT c.oid, c.relname AS name, c.reloptions AS options, obj_description(c.oid, 'pg_class') AS comment
FROM pg_class AS c WHERE c.relnamespace = $1::regnamespace AND c.relkind = 'r' ORDER BY c.relname
"""
NOT_COPIED = """
SELECT format('%s %I of table %I', kind, name, relname) AS what FROM (
    SELECT 'trigger' AS kind, tgname AS name, tgrelid AS oid FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'foreign key', conname, conrelid FROM pg_constraint WHERE contype = 'f'
    UNION ALL SELECT 'policy', polname, polrelid FROM pg_policy
) AS found JOIN pg_class AS c USING (oid) WHERE c.relnamespace = $1::regnamespace
"""
# CREATE TABLE .. LIKE would give indexes new names, but the projector knows a constraint by its name. So constraints
# and indexes are created from their definitions.
CONSTRAINTS = """
SELECT conname AS name, pg_get_constraintdef(oid) AS definition FROM pg_constraint
WHERE conrelid = $1 AND contype IN ('p', 'u', 'x') ORDER BY conname
"""
INDEXES = """
SELECT pg_get_indexdef(i.indexrelid) AS definition FROM pg_index AS i
WHERE i.indrelid = $1 AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conindid = i.indexrelid)
ORDER BY i.indexrelid
"""
TABLE_GRANTS = """
SELECT acl.privilege_type AS privilege, acl.grantee::regrole::text AS role
FROM pg_class AS c CROSS JOIN aclexplode(c.relacl) AS acl WHERE c.oid = $1 AND acl.grantee NOT IN (0, c.relowner)
"""
SCHEMA_GRANTS = """
SELECT acl.privilege_type AS privilege, acl.grantee::regrole::text AS role
FROM pg_namespace AS n CROSS JOIN aclexplode(n.nspacl) AS acl
WHERE n.oid = $1::regnamespace AND acl.grantee NOT IN (0, n.nspowner)
"""
DEPENDENT_VIEWS = """
SELECT DISTINCT v.oid, n.nspname AS schema, v.relname AS name, pg_get_viewdef(v.oid) AS definition,
       v.reloptions AS options
FROM pg_depend AS d
JOIN pg_class AS t ON t.oid = d.refobjid AND d.refclassid = 'pg_class'::regclass
JOIN pg_rewrite AS r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
JOIN pg_class AS v ON v.oid = r.ev_class AND v.oid <> t.oid
JOIN pg_namespace AS n ON n.oid = v.relnamespace
WHERE t.relnamespace = $1::regnamespace AND v.relnamespace <> t.relnamespace
ORDER BY 2, 3
"""


class GenerationInUseError(Exception):
    """An object outside the generation depends on it, so the generation cannot be dropped or replaced."""


class NotCopiedError(Exception):
    """The active generation has an object that a copy of it would lack."""


@dataclass(frozen=True)
class View:
    """A view that reads a generation's tables. Its `definition` names every table with its schema."""

    schema: str
    name: str
    definition: str
    options: tuple[str, ...]


async def create_like(connection: Connection, model: str, name: str) -> list[str]:
    """Creates a schema with empty copies of another generation's tables, with their indexes and grants.

    Args:
        connection: a connection of the owner's role, in a transaction.
        model: the schema to copy.
        name: the new schema.

    Returns:
        The names of the tables.

    Raises:
        NotCopiedError: `model` has triggers, foreign keys or policies, which a copy would lack.
    """
    await _qualify_all_names(connection)
    lacking = [row["what"] for row in await connection.fetch(NOT_COPIED, model)]
    if lacking:
        raise NotCopiedError(f"{model} has objects that a new generation would lack: {', '.join(lacking)}")
    await connection.execute(f"CREATE SCHEMA {name}")
    for row in await connection.fetch(SCHEMA_GRANTS, model):
        await connection.execute(f"GRANT {row['privilege']} ON SCHEMA {name} TO {row['role']}")
    tables = await connection.fetch(TABLES, model)
    for table in tables:
        await _create_table(connection, model, name, table["name"], table["options"])
        await _create_indexes(connection, model, name, table["name"], table["oid"])
        if table["comment"] is not None:
            text = await connection.fetchval("SELECT quote_literal($1::text)", table["comment"])
            await connection.execute(f"COMMENT ON TABLE {name}.{table['name']} IS {text}")
        for row in await connection.fetch(TABLE_GRANTS, table["oid"]):
            await connection.execute(f"GRANT {row['privilege']} ON {name}.{table['name']} TO {row['role']}")
    return [table["name"] for table in tables]


async def _create_table(
    connection: Connection, model: str, name: str, table: str, options: Iterable[str] | None
) -> None:
    with_options = f" WITH ({', '.join(options)})" if options else ""
    await connection.execute(
        f"CREATE TABLE {name}.{table} (LIKE {model}.{table} INCLUDING ALL EXCLUDING INDEXES){with_options}"
    )


async def _create_indexes(connection: Connection, model: str, name: str, table: str, oid: int) -> None:
    for row in await connection.fetch(CONSTRAINTS, oid):
        await connection.execute(f"ALTER TABLE {name}.{table} ADD CONSTRAINT {row['name']} {row['definition']}")
    for row in await connection.fetch(INDEXES, oid):
        await connection.execute(row["definition"].replace(f" ON {model}.", f" ON {name}.", 1))


async def tables_of(connection: Connection, name: str) -> list[str]:
    """Returns the names of a generation's tables."""
    return [row["name"] for row in await connection.fetch(TABLES, name)]


async def drop(connection: Connection, name: str) -> None:
    """Drops a generation's schema. Raises GenerationInUseError, and drops nothing, when a view still reads it."""
    if await connection.fetchval("SELECT to_regnamespace($1::text) IS NULL", name):
        return
    views = await _views_on(connection, name)
    if views:
        raise GenerationInUseError(f"{name} is still read by {', '.join(f'{v.schema}.{v.name}' for v in views)}")
    tables = await tables_of(connection, name)
    if tables:
        await connection.execute(f"DROP TABLE {', '.join(f'{name}.{table}' for table in tables)}")
    await connection.execute(f"DROP SCHEMA {name}")


async def point_views_at(connection: Connection, old: str, new: str) -> list[str]:
    """Makes every view of schema `read` that reads generation `old` read generation `new`.

    Running queries keep the old generation; new queries read the new one. The call waits for running queries for the
    session's lock_timeout.

    Returns:
        The names of the views.

    Raises:
        GenerationInUseError: a view in another schema reads `old`, and would continue to read it.
    """
    await _qualify_all_names(connection)
    views = await _views_on(connection, old)
    others = [f"{view.schema}.{view.name}" for view in views if view.schema != READ]
    if others:
        raise GenerationInUseError(f"{', '.join(others)} would continue to read {old}: make it read a view of {READ}")
    for view in views:
        options = f" WITH ({', '.join(view.options)})" if view.options else ""
        definition = view.definition.replace(f"{old}.", f"{new}.")
        await connection.execute(f'CREATE OR REPLACE VIEW {READ}."{view.name}"{options} AS {definition}')
    left = await _views_on(connection, old)
    if left:
        raise GenerationInUseError(f"{', '.join(view.name for view in left)} still reads {old} after the change")
    return [view.name for view in views]


async def _views_on(connection: Connection, name: str) -> list[View]:
    return [
        View(row["schema"], row["name"], row["definition"], tuple(row["options"] or ()))
        for row in await connection.fetch(DEPENDENT_VIEWS, name)
    ]


async def _qualify_all_names(connection: Connection) -> None:
    """Empties the search path, so that the catalog's functions name every table with its schema."""
    await connection.execute("SET LOCAL search_path = pg_catalog")
