"""The example of CloudNativePG makes a PostgreSQL in which Footfall runs, with the rights that it has elsewhere.

The operator itself needs Kubernetes. What it does with the example's SQL, and in which order, is from its source
(pkg/management/postgres/initdb.go of 1.28); the roles that it manages get their login and groups afterwards.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from footfall.local.embedded.postgres.roles import OWNER, PROJECTOR, QUERY
from operations.settings import MigrateSettings
from operations.setup import migrate
from tests.conftest import Footfall
from tests.drivers.helm import HELM, yaml
from tests.own_postgres import PASSWORDS, OwnPostgres, own_postgres, run
from tests.producing import produce, some_records, start_projector, wait_until_processed
from tests.servers import Servers, at_database

PASSWORD = {PROJECTOR: PASSWORDS.projector, QUERY: PASSWORDS.query}
[CLUSTER] = yaml((HELM / "examples" / "cloudnative-pg.yaml").read_text())
SPEC: dict[str, Any] = CLUSTER["spec"]


@pytest.fixture(scope="module")
def postgres() -> Iterator[OwnPostgres]:
    """As the operator makes it."""
    initdb, parameters = SPEC["bootstrap"]["initdb"], SPEC["postgresql"]["parameters"]
    given = {name: value for name, value in parameters.items() if name.startswith("log_")}  # the others are sizes
    with own_postgres(roles=False, **given) as found:
        found.run(f"CREATE ROLE {initdb['owner']} LOGIN", "SELECT 1", url=found.superuser_url("postgres"))
        for database, statements in (("postgres", "postInitSQL"), ("template1", "postInitTemplateSQL")):
            found.run(*initdb[statements], "SELECT 1", url=found.superuser_url(database))
        made = f"CREATE DATABASE {initdb['database']} OWNER {initdb['owner']}"
        found.run(made, "SELECT 1", url=found.superuser_url("postgres"))
        found.run(*initdb["postInitApplicationSQL"], "SELECT 1")
        found.run(f"ALTER ROLE {initdb['owner']} PASSWORD '{PASSWORDS.owner}'", "SELECT 1")
        for role in SPEC["managed"]["roles"]:
            found.run(*managed(found, role), "SELECT 1")
        migrate(MigrateSettings(database_url=SecretStr(found.servers().admin_url)))
        yield found


def managed(postgres: OwnPostgres, role: dict[str, Any]) -> list[str]:
    """What the operator does for a role that it manages: it makes or alters it, and grants its groups."""
    name, login = role["name"], "LOGIN" if role["login"] else "NOLOGIN"
    is_there = postgres.run(f"SELECT count(*) FROM pg_roles WHERE rolname = '{name}'")
    verb, groups = "ALTER" if is_there else "CREATE", ", ".join(role["inRoles"])
    return [f"{verb} ROLE {name} {login} PASSWORD '{PASSWORD[name]}'", f"GRANT {groups} TO {name}"]


def refused(url: str, statement: str) -> bool:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        asyncio.run(run(url, "SET default_transaction_read_only = off", statement))
    return True


def test_footfall_runs_in_it_with_the_least_rights(
    postgres: OwnPostgres, real_servers: Servers, new_topic: Callable[..., str], tmp_path: Path
) -> None:
    assert SPEC["bootstrap"]["initdb"]["owner"] == OWNER
    footfall = Footfall(postgres.servers(real_servers.kafka), new_topic(), tmp_path)
    try:
        start_projector(footfall)
        queries = footfall.start("query-side", ready=True)
        produce(footfall, some_records(100))
        wait_until_processed(footfall, 100)
        assert len(httpx.get(f"{queries.url}/events/processed", params={"limit": 100}).json()) == 100
    finally:
        footfall.close()
    reader, writer = footfall.servers.query_url, footfall.servers.projector_url
    for url in (reader, writer):
        assert refused(url, "SELECT lo_create(0)")
        assert refused(url, "SELECT pg_logical_emit_message(false, '', 'x')")
        assert refused(at_database(url, "postgres"), "SELECT 1")
        assert refused(url, "CREATE TABLE public.mine (n int)")
    assert refused(reader, "SET temp_file_limit = '2GB'")
    told = "SELECT string_agg(setting, ' ' ORDER BY name) FROM pg_settings WHERE name IN ({})"
    names = "'default_transaction_read_only', 'temp_file_limit', 'statement_timeout', 'log_error_verbosity'"
    assert asyncio.run(run(reader, told.format(names))) == "on terse 1800000 1048576"
