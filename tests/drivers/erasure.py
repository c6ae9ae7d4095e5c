"""What tables hold of a user, what is counted, and whether a rebuild says the same."""

import json
from typing import Any

from tests.conftest import Footfall
from tests.drivers.rebuilding import NEW, OLD, rebuild, wait_until_done
from tests.producing import checkpoints, sql


def hits(footfall: Footfall, needle: str, schema: str) -> dict[str, int]:
    """Rows by table that hold the needle, as text or as bytes. Nobody may read the audit log's key."""
    tables = sql(
        footfall.servers,
        f"SELECT relname FROM pg_class WHERE relnamespace = '{schema}'::regnamespace AND relkind = 'r' "
        "AND has_table_privilege(oid, 'SELECT')",
    )
    found = {}
    for (table,) in tables:
        told = f"position('{needle}' in t::text) + position('{needle.encode().hex()}' in t::text) > 0"
        [(count,)] = sql(footfall.servers, f"SELECT count(*) FROM {schema}.{table} AS t WHERE {told}")
        if count:
            found[table] = count
    return found


COUNTS = """
SELECT 'hours' AS what, hour, event_type AS name, sum(events) AS events, sum(users) AS users
FROM {generation}.activity_hourly GROUP BY 2, 3
UNION ALL SELECT 'products', hour, product_id, sum(views), sum(users) FROM {generation}.product_views GROUP BY 2, 3
ORDER BY 1, 2, 3
"""


def counts(footfall: Footfall, generation: str = OLD) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in sql(footfall.servers, COUNTS.format(generation=generation))]


def assert_rebuilt_the_same(footfall: Footfall) -> None:
    rebuild(footfall, "start")
    wait_until_done(footfall, NEW, sum(row["next_offset"] for row in checkpoints(footfall).values()))
    found = json.loads(rebuild(footfall, "verify", "--json"))
    assert found["equal"], found
    assert counts(footfall, NEW) == counts(footfall)
