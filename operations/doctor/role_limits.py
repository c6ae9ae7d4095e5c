"""Are the roles that only read bounded, so that no query of theirs can fill the disk or hold locks for ever?"""

import asyncpg

from operations.doctor.findings import Finding, well_unless

# What bounds them, and the value that our own setups give the query side (deploy/postgres/10-roles.sh).
LIMITS = {"temp_file_limit": "1GB", "statement_timeout": "30min", "idle_in_transaction_session_timeout": "60s"}
# Login roles that may read and neither write nor own. A limit of the role counts, here or everywhere, or one of the
# server's configuration; -1 and 0 are no limits.
UNBOUNDED = """
WITH readers AS (
    SELECT oid, rolname FROM pg_roles
    WHERE rolcanlogin AND NOT rolsuper AND oid <> (SELECT datdba FROM pg_database WHERE datname = current_database())
      AND (pg_has_role(oid, to_regrole('footfall_reader'), 'USAGE')
           OR pg_has_role(oid, to_regrole('footfall_reporter'), 'USAGE'))
      AND NOT pg_has_role(oid, to_regrole('footfall_writer'), 'USAGE')
), bounds AS (
    SELECT readers.oid, wanted.name, coalesce(
        (SELECT split_part(each, '=', 2) FROM pg_db_role_setting AS own, unnest(own.setconfig) AS each
         WHERE own.setrole = readers.oid AND own.setdatabase IN (0, (
               SELECT oid FROM pg_database WHERE datname = current_database()))
           AND split_part(each, '=', 1) = wanted.name ORDER BY own.setdatabase DESC LIMIT 1),
        (SELECT setting FROM pg_settings AS server
         WHERE server.name = wanted.name AND server.source IN ('configuration file', 'command line'))) AS value
    FROM readers CROSS JOIN unnest($1::text[]) AS wanted(name)
)
SELECT rolname, array_agg(name ORDER BY name) AS missing FROM bounds JOIN readers USING (oid)
WHERE value IS NULL OR value ~ '^(-1|0+ *[a-zA-Z]*)$' GROUP BY rolname ORDER BY rolname
"""


async def role_limits(connection: asyncpg.Connection) -> list[Finding]:
    """Roles that only read have limits for disk, for time, and for open transactions."""
    found = [
        Finding(
            "limits of roles",
            "warning",
            f"The role {row['rolname']} has no {', '.join(row['missing'])}: one query of its sessions may fill the disk"
            " or hold up others for ever.",
            "As a superuser: "
            + " ".join(f"ALTER ROLE {row['rolname']} SET {name} = '{LIMITS[name]}';" for name in row["missing"]),
        )
        for row in await connection.fetch(UNBOUNDED, list(LIMITS))
    ]
    return well_unless("limits of roles", found, "Those that only read are bounded.")
