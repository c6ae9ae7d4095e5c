"""A database of a test goes whatever PostgreSQL does in it: no test fails because autovacuum came by."""

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from bench.databases import drop_database
from tests.own_postgres import OwnPostgres, own_postgres
from tests.processes import wait_until
from tests.servers import at_database

WORKERS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND datname = 'busy'"
FILL = "CREATE TABLE dead AS SELECT repeat('x', 1000) AS text FROM generate_series(1, 20000)"


@pytest.fixture
def postgres() -> Iterator[OwnPostgres]:
    """With an autovacuum that begins within a second or so and then takes minutes."""
    with own_postgres(
        migrated=False, autovacuum_naptime="1s", autovacuum_vacuum_cost_delay="100ms", autovacuum_vacuum_cost_limit="1"
    ) as found:
        yield found


def test_autovacuum_keeps_an_owner_from_no_drop(postgres: OwnPostgres) -> None:
    superuser, owner = postgres.superuser_url("postgres"), postgres.servers().admin_url
    postgres.run("CREATE DATABASE busy OWNER footfall", url=superuser)
    postgres.run(FILL, "DELETE FROM dead", "SELECT 1", url=at_database(owner, "busy"))
    wait_until(lambda: postgres.run(WORKERS, url=superuser) == 1, 30, "autovacuum to be at work there")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        postgres.run("DROP DATABASE busy WITH (FORCE)", url=owner)
    assert postgres.run(WORKERS, url=superuser) == 1
    asyncio.run(drop_database(owner, "busy"))
    assert postgres.run("SELECT count(*) FROM pg_database WHERE datname = 'busy'", url=superuser) == 0
