"""Makes and checks reporters: login roles that may read schema `reporting` and nothing else (docs/sql.md).

Privileges bound what a reporter can do; `grant` checks them before it commits. The timeouts in SETTINGS are only
defaults of the role's sessions: as every PostgreSQL role, a reporter can change them for itself.
"""

import base64
import contextlib
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

import asyncpg

from contracts.event import DEFAULT_TENANT, is_tenant_id
from operations.audit.deed import audited, by_connection
from read_model.connecting.operators_lock import HeldError, take_operators_lock
from read_model.connecting.pool import connect
from read_model.tables.reporting import REPORTER_ROLE, REPORTING

NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")  # names that need no quotes in SQL or in a URL
PASSWORD = re.compile(r"[!-~]{12,128}")  # printable ASCII: SASLprep (RFC 4013) leaves it as it is
SCRAM_ITERATIONS = 4096  # PostgreSQL's own default

STATEMENT_TIMEOUT = 30  # seconds
CONNECTIONS = 5
TEMPORARY_FILES = "1GB"  # temp_file_limit: disk space that one session's queries may use at once
# A transaction locks the views that it has read, and a promotion waits for that lock (60 seconds by default).
SETTINGS = {
    "default_transaction_read_only": "on",
    "transaction_timeout": "60s",
    "idle_in_transaction_session_timeout": "30s",
    "timezone": "UTC",
    "search_path": REPORTING,
}

ROLE = """
SELECT r.oid, rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls AS powerful,
       ARRAY(SELECT g.rolname::text FROM pg_auth_members AS m JOIN pg_roles AS g ON g.oid = m.roleid
             WHERE m.member = r.oid ORDER BY 1) AS groups
FROM pg_roles AS r WHERE rolname = $1
"""
# An existing reporter without a row was made by hand: it gets one, as a new reporter does.
BIND = f"""
INSERT INTO ops.reporter_tenants (reporter, tenant_id) VALUES ($1, coalesce($2, '{DEFAULT_TENANT}'))
ON CONFLICT (reporter) DO UPDATE SET tenant_id = coalesce($2, reporter_tenants.tenant_id) RETURNING tenant_id
"""  # noqa: S608 - composed of constants
# Privileges of a role in this database beyond reading the views. A correct reporter has none.
EXCESS_PRIVILEGES = """
SELECT format('%s on %I.%I', privilege, nspname, relname) AS what
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace,
     unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS privilege
WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND nspname NOT IN ('pg_catalog', 'information_schema')
  AND NOT (nspname = $2 AND privilege = 'SELECT')
  AND has_schema_privilege($1::name, n.oid, 'USAGE') AND has_table_privilege($1::name, c.oid, privilege)
UNION ALL
SELECT format('CREATE on schema %I', nspname) FROM pg_namespace WHERE has_schema_privilege($1::name, oid, 'CREATE')
UNION ALL
SELECT format('%s on database %I', privilege, current_database()) FROM unnest(ARRAY['CREATE', 'TEMPORARY']) AS privilege
WHERE has_database_privilege($1::name, current_database(), privilege)
UNION ALL
SELECT 'superuser' FROM pg_roles WHERE rolname = $1::name AND rolsuper
ORDER BY 1 LIMIT 5
"""
# PostgreSQL grants these to every role. Only a superuser, or the owner of the other database, can revoke them.
SUPERUSER_STEPS = """
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC;', oid::regprocedure) AS remedy FROM pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace AND has_function_privilege($1::name, oid, 'EXECUTE')
  AND proname IN ('lo_create', 'lo_creat', 'lo_from_bytea', 'pg_logical_emit_message')
UNION ALL
SELECT format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC;', datname) FROM pg_database
WHERE datallowconn AND datname <> current_database() AND has_database_privilege($1::name, oid, 'CONNECT')
UNION ALL
SELECT format('ALTER ROLE %I SET temp_file_limit = %L;', rolname, $2::text) FROM pg_roles
WHERE rolname = $1::name AND NOT coalesce(array_to_string(rolconfig, ' ') ~ 'temp_file_limit=', false)
ORDER BY 1
"""


class RefusedReporterError(Exception):
    """The role cannot become a reporter, or is not one; the text says why, and what to do."""


@dataclass(frozen=True)
class Reporter:
    """A reporter that was made or updated.

    `tenant_id`: whose data it may query. `superuser_steps`: SQL that a superuser still has to run, so that the role can
    do nothing but read.
    """

    name: str
    database: str
    tenant_id: str
    created: bool
    new_password: str | None = field(repr=False)  # only a password that was generated here
    superuser_steps: tuple[str, ...]


def name_problem(name: str) -> str | None:
    """Returns what is wrong with a reporter's name, or None."""
    if NAME.fullmatch(name) is None or name.startswith("pg_"):
        return (
            f"{name!r} cannot name a reporter: use lower-case letters, digits and _, at most 63, not beginning with a "
            "digit or pg_"
        )
    return None


def password_problem(password: str) -> str | None:
    """Returns what is wrong with a password, without quoting it, or None."""
    return None if PASSWORD.fullmatch(password) else "a password has 12 to 128 printable ASCII characters, no spaces"


def tenant_problem(tenant_id: str) -> str | None:
    """Returns what is wrong with a tenant's id, or None."""
    return None if is_tenant_id(tenant_id) else "a tenant's id has 1 to 64 letters, digits, `.`, `_` or `-`"


async def grant(
    owner_url: str,
    name: str,
    password: str | None = None,
    *,
    tenant_id: str | None = None,
    renew: bool = False,
    statement_timeout: int = STATEMENT_TIMEOUT,
    connections: int = CONNECTIONS,
) -> Reporter:
    """Makes `name` a reporter, or updates an existing reporter and resets the defaults that it changed for itself.

    Args:
        owner_url: PostgreSQL URL of the database's owner.
        name: The role; see `name_problem`.
        password: Its password. None: a new role, or any role with `renew`, gets a random one; others keep theirs.
        tenant_id: Whose data it may query. None: an existing reporter's stays, a new one's is `default`.
        renew: Gives an existing reporter a new random password.
        statement_timeout: Longest query, seconds.
        connections: Connections at once at most.

    Returns:
        The reporter, with the password if one was generated.

    Raises:
        RefusedReporterError: The role serves another purpose, or could do more than read the views. Nothing is
            changed.
    """
    connection = await connect(owner_url, "footfall-grant-reporter")
    try:
        await _require_schema(connection)
        write = by_connection(connection)
        async with (
            audited(write, "grant-reporter", target=f"role {name}", refusals=(RefusedReporterError,)),
            connection.transaction(),
        ):
            created = await _is_new_role(connection, name)
            await _lock_out_other_operators(connection)
            generated = secrets.token_urlsafe(24) if password is None and (created or renew) else None
            await _make_role(connection, name, created, password or generated)
            await _set_defaults(connection, name, statement_timeout, connections)
            tenant = await _bind(connection, name, tenant_id)
            database = await _restrict_database(connection)
            await _limit_temporary_files(connection, name)
            await _refuse_excess_privileges(connection, name)
            steps = [row["remedy"] for row in await connection.fetch(SUPERUSER_STEPS, name, TEMPORARY_FILES)]
            return Reporter(name, database, tenant, created, generated, tuple(steps))
    finally:
        await connection.close()


async def _lock_out_other_operators(connection: asyncpg.Connection) -> None:
    """Takes the operators' lock: PostgreSQL fails when two sessions change a database's privileges at once."""
    try:
        await take_operators_lock(connection)
    except HeldError as error:
        raise RefusedReporterError(str(error)) from None


async def check(reporter_url: str) -> None:
    """Raises RefusedReporterError if the URL's role may do more than a reporter."""
    connection = await connect(reporter_url, "footfall-sql")
    try:
        await _refuse_excess_privileges(connection, await connection.fetchval("SELECT current_user::text"))
    finally:
        await connection.close()


async def _require_schema(connection: asyncpg.Connection) -> None:
    if not await connection.fetchval("SELECT to_regnamespace($1::text) IS NOT NULL", REPORTING):
        raise RefusedReporterError(f"the database has no schema {REPORTING} yet. First: footfall migrate")
    if not await connection.fetchval("SELECT to_regclass('ops.reporter_tenants') IS NOT NULL"):
        raise RefusedReporterError("the database's schema knows no tenants of reporters yet. First: footfall migrate")


async def _is_new_role(connection: asyncpg.Connection, name: str) -> bool:
    """Whether the role does not exist yet. Raises RefusedReporterError if it exists and is not a reporter."""
    found = await connection.fetchrow(ROLE, name)
    if found is not None and (found["powerful"] or set(found["groups"]) != {REPORTER_ROLE}):
        raise RefusedReporterError(f"role {name} exists and is not a reporter. Choose another name.")
    return found is None


async def _make_role(connection: asyncpg.Connection, name: str, created: bool, password: str | None) -> None:
    secret = f" PASSWORD '{scram_verifier(password)}'" if password is not None else ""
    await connection.execute(f'{"CREATE" if created else "ALTER"} ROLE "{name}" LOGIN INHERIT{secret}')
    await connection.execute(f'GRANT {REPORTER_ROLE} TO "{name}" WITH INHERIT TRUE, SET FALSE, ADMIN FALSE')


async def _bind(connection: asyncpg.Connection, name: str, tenant_id: str | None) -> str:
    tenant: str = await connection.fetchval(BIND, name, tenant_id)
    return tenant


async def _set_defaults(connection: asyncpg.Connection, name: str, statement_timeout: int, connections: int) -> None:
    await connection.execute(f'ALTER ROLE "{name}" CONNECTION LIMIT {connections:d}')
    await connection.execute(f'ALTER ROLE "{name}" RESET ALL')
    for setting, value in {**SETTINGS, "statement_timeout": f"{statement_timeout:d}s"}.items():
        await connection.execute(f"ALTER ROLE \"{name}\" SET {setting} = '{value}'")


async def _limit_temporary_files(connection: asyncpg.Connection, name: str) -> None:
    """Sets temp_file_limit, which a role cannot change for itself. Does nothing if the owner lacks the right to."""
    with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
        async with connection.transaction():
            await connection.execute(f"ALTER ROLE \"{name}\" SET temp_file_limit = '{TEMPORARY_FILES}'")


async def _restrict_database(connection: asyncpg.Connection) -> str:
    """Lets reporters connect, and only projectors make temporary tables; returns the database's name.

    By default PostgreSQL lets every role make temporary tables.
    """
    database: str = await connection.fetchval("SELECT current_database()::text")
    quoted = await connection.fetchval("SELECT quote_ident($1)", database)
    await connection.execute(f"REVOKE TEMPORARY ON DATABASE {quoted} FROM PUBLIC")
    await connection.execute(f"GRANT TEMPORARY ON DATABASE {quoted} TO footfall_writer")
    await connection.execute(f"GRANT CONNECT ON DATABASE {quoted} TO {REPORTER_ROLE}")
    return database


async def _refuse_excess_privileges(connection: asyncpg.Connection, name: str) -> None:
    excess = [row["what"] for row in await connection.fetch(EXCESS_PRIVILEGES, name, REPORTING)]
    if excess:
        raise RefusedReporterError(
            f"role {name} may do more than read schema {REPORTING}: {', '.join(excess)}. Revoke that, or use another "
            "role: footfall grant-reporter NAME"
        )


def scram_verifier(password: str) -> str:
    """Returns the hash of a password that PostgreSQL stores (RFC 5803).

    `grant` sends this hash instead of the password, so that no server log can show the password.
    """
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, SCRAM_ITERATIONS)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode("ascii") for part in (salt, stored_key, server_key)]
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"
