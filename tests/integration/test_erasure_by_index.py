"""The function that deletes users' rows: the same by looks into an index and by one pass, and nobody else's rows."""

import asyncio
from collections import Counter
from collections.abc import Callable

import asyncpg
import pytest

from tests.servers import Servers

USERS, HOURS, PARTITIONS = 300, 48, 2
TABLES = ("user_activity", "activity_hourly_users", "product_views_users", "activity_hourly_type_users")
# Every user has rows in both partitions, in every hour but the last, and was seen from the first to the last of them.
FILL = (
    f"""CREATE TEMP TABLE wanted AS SELECT tenant_id, 'user-' || n AS user_id, p AS kafka_partition
    FROM unnest(ARRAY['default', 'twin']) AS tenant_id, generate_series(1, {USERS}) AS n,
         generate_series(0, {PARTITIONS - 1}) AS p""",
    f"""CREATE TEMP TABLE hours AS
    SELECT timestamptz '2026-01-01 00:00Z' + n * interval '1 hour' AS hour FROM generate_series(0, {HOURS}) AS n""",
    """INSERT INTO read_g1.user_activity (tenant_id, user_id, kafka_partition, first_seen, last_seen, logins, logouts,
        product_views)
    SELECT tenant_id, user_id, kafka_partition, timestamptz '2026-01-01 00:30Z', (SELECT max(hour) FROM hours), 0, 0, 0
    FROM wanted""",
    """INSERT INTO read_g1.activity_hourly (tenant_id, hour, event_type, kafka_partition, events, users)
    SELECT DISTINCT tenant_id, hour, 'LOGIN', kafka_partition, 1, 1 FROM wanted, hours""",
    """INSERT INTO read_g1.activity_hourly_users (tenant_id, hour, user_id, kafka_partition, types)
    SELECT tenant_id, hour, user_id, kafka_partition, 1 FROM wanted, hours""",
    """INSERT INTO read_g1.product_views_users (tenant_id, hour, user_id, kafka_partition, products)
    SELECT tenant_id, hour, user_id, kafka_partition, ARRAY['p'] FROM wanted, hours""",
    """INSERT INTO read_g1.activity_hourly_type_users (tenant_id, hour, event_type, user_id, kafka_partition)
    SELECT tenant_id, hour, 'SEARCH', user_id, kafka_partition FROM wanted, hours""",
)
ERASE = "SELECT ops.erase_users('read_g1', $1, $2, $3, $4, 'topic')"


@pytest.mark.parametrize("count", [1, USERS - 1])
async def test_one_or_many_users_lose_their_rows_of_one_partition(
    new_database: Callable[[], Servers], count: int
) -> None:
    servers = await asyncio.to_thread(new_database)
    connection = await asyncpg.connect(servers.admin_url)
    try:
        for statement in FILL:
            await connection.execute(statement)
        before = {name: await rows(connection, name) for name in TABLES}
        gone = {f"user-{n}" for n in range(1, count + 1)}
        names = [*gone, "nobody"]
        await connection.execute(ERASE, ["default"] * len(names), names, [1] * len(names), [10**9] * len(names))
        for name in TABLES:
            assert await rows(connection, name) == Counter(
                {key: n for key, n in before[name].items() if not (key[1] in gone and key[::2] == ("default", 1))}
            ), name
    finally:
        await connection.close()


async def rows(connection: asyncpg.Connection, table: str) -> Counter[tuple[str, str, int]]:
    """How many rows each user of each tenant has in each partition."""
    found = await connection.fetch(f"SELECT tenant_id, user_id, kafka_partition FROM read_g1.{table}")
    return Counter(map(tuple, found))
