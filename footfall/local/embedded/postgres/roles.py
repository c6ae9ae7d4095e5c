"""Makes the roles, their passwords and the database that the migrations expect."""

import json
import os
import secrets
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from footfall.local.embedded.ports import HOST
from footfall.local.embedded.postgres.cluster import BIN, SUPERUSER
from footfall.local.embedded.stack_error import StackError

DATABASE = "footfall"
OWNER, PROJECTOR, QUERY = "footfall", "footfall_projector", "footfall_query"
PSQL_TIMEOUT_SECONDS = 120.0
NO_WRITING_FUNCTIONS = """\
DO $$
DECLARE found regprocedure;
BEGIN
    FOR found IN SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
        AND proname IN ('lo_create', 'lo_creat', 'lo_from_bytea', 'pg_logical_emit_message') LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', found);
    END LOOP;
END $$;"""


@dataclass(frozen=True)
class Passwords:
    """A random password for each login role, made once for each state directory."""

    superuser: str
    owner: str
    projector: str
    query: str


def load_passwords(path: Path, cluster_exists: bool) -> Passwords:
    """Returns the passwords in `path` (mode 0600); makes them if the file is missing.

    Raises:
        StackError: The file is missing or unreadable, but a cluster with its passwords exists.
    """
    try:
        return Passwords(**json.loads(path.read_text()))
    except FileNotFoundError:
        if cluster_exists:
            raise StackError(lost_passwords(path)) from None
    except (ValueError, TypeError) as error:
        raise StackError(lost_passwords(path)) from error
    passwords = Passwords(*(secrets.token_hex(24) for _ in range(4)))
    half_written = path.with_suffix(".part")
    half_written.unlink(missing_ok=True)
    with os.fdopen(os.open(half_written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(json.dumps(asdict(passwords)) + "\n")
    half_written.replace(path)
    return passwords


def lost_passwords(path: Path) -> str:
    return (
        f"{path} is missing or unreadable, and with it the passwords of the PostgreSQL beside it. Put the file back, "
        f"or remove {path.parent / 'postgres'}: the read model is rebuilt from Kafka."
    )


def ensure_roles(port: int, passwords: Passwords) -> None:
    """Makes or updates roles and database. Running it again changes nothing. Raises StackError if psql fails."""
    try:
        subprocess.run(
            [str(BIN / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"],
            input=roles_sql(passwords),
            env=superuser_environment(port, passwords),
            capture_output=True,
            text=True,
            timeout=PSQL_TIMEOUT_SECONDS,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise StackError(f"PostgreSQL's roles could not be prepared: {error.stderr.strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise StackError(f"PostgreSQL did not prepare its roles within {PSQL_TIMEOUT_SECONDS:.0f} s.") from error


def superuser_environment(port: int, passwords: Passwords) -> dict[str, str]:
    """Returns the environment for psql, without the user's own PGHOST, PGSERVICE and the like."""
    connection = {"PGHOST": HOST, "PGPORT": str(port), "PGUSER": SUPERUSER, "PGDATABASE": "postgres"}
    return {**connection, "PGPASSWORD": passwords.superuser, "PGSSLMODE": "disable", "PGCONNECT_TIMEOUT": "10"}


def role_url(port: int, role: str, password: str) -> str:
    return f"postgresql://{role}:{password}@{HOST}:{port}/{DATABASE}"


def roles_sql(passwords: Passwords) -> str:
    """Returns the SQL for psql. The passwords are hexadecimal, so they need no quoting."""
    return f"""\
SET client_min_messages = warning;
SELECT format('CREATE ROLE %I', wanted) FROM unnest(ARRAY['{OWNER}', '{PROJECTOR}', '{QUERY}', 'footfall_writer',
  'footfall_reader']) AS wanted WHERE wanted NOT IN (SELECT rolname FROM pg_roles) \\gexec
ALTER ROLE {OWNER} LOGIN CREATEROLE CREATEDB PASSWORD '{passwords.owner}';
ALTER ROLE {PROJECTOR} LOGIN PASSWORD '{passwords.projector}';
ALTER ROLE {QUERY} LOGIN PASSWORD '{passwords.query}';
ALTER ROLE {QUERY} SET default_transaction_read_only = on;
ALTER ROLE {QUERY} SET temp_file_limit = '1GB';
ALTER ROLE {QUERY} SET statement_timeout = '30min';
ALTER ROLE {QUERY} SET idle_in_transaction_session_timeout = '60s';
-- Migrations grant table privileges to these two groups; the owner may also add members.
GRANT footfall_writer, footfall_reader TO {OWNER} WITH ADMIN OPTION;
GRANT footfall_writer TO {PROJECTOR};
GRANT footfall_reader TO {QUERY};
SELECT 'CREATE DATABASE {DATABASE} OWNER {OWNER}'
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{DATABASE}') \\gexec
-- The owner may see who holds a lock, and may set the one limit that a reporter cannot change for itself.
GRANT pg_read_all_stats TO {OWNER};
GRANT SET ON PARAMETER temp_file_limit TO {OWNER};
REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;
-- PostgreSQL lets every role, even one that may only read, make large objects and write messages into the WAL.
-- Databases made later are copies of template1.
\\connect template1
{NO_WRITING_FUNCTIONS}
\\connect {DATABASE}
{NO_WRITING_FUNCTIONS}
"""  # noqa: S608 - names are constants, passwords our own hexadecimal
