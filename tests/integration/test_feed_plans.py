"""What the feed's statements cost: a page reads its own rows, by index, however long the log is."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from query_side.feed import event_status as status
from query_side.feed import pages as feed
from query_side.feed import start_position as since
from query_side.log_positions import positions
from query_side.log_positions import read_your_writes as fresh
from tests.many_events import fill
from tests.producing import sql
from tests.servers import Servers

COUNT = 100_000
LIMIT = 100


@pytest.fixture(scope="module")
def database(new_database: Callable[[], Servers]) -> Servers:
    servers = new_database()
    fill(servers.admin_url, COUNT)
    sql(servers, f"INSERT INTO read_g1.checkpoints (topic, partition, next_offset, epoch, owner) SELECT 't', p, "
        f"CASE p WHEN 0 THEN {COUNT} ELSE 0 END, 1, 'o' FROM generate_series(0, 5) AS p")  # fmt: skip
    sql(servers, "INSERT INTO ops.late_events (topic, partition, number, kafka_offset, tenant_id) "
        "SELECT 't', 0, n, n, 'default' FROM generate_series(1, 50) AS n")  # fmt: skip
    sql(servers, "INSERT INTO ops.late_events (topic, partition, number, kafka_offset, tenant_id) "
        "SELECT 'u', n % 6, n, n, 'tenant-' || n % 9 FROM generate_series(1, 20000) AS n")  # fmt: skip
    # Another tenant has one record in a hundred.
    columns = "kafka_offset, occurred_at, recorded_at, event_id, kafka_topic, user_id, event_type, payload, event_json"
    sql(servers, f"INSERT INTO read_g1.processed_events ({columns}, kafka_partition, tenant_id) "
        f"SELECT {columns}, 0, 'acme' FROM read_g1.processed_events"
        " WHERE tenant_id = 'default' AND kafka_offset % 100 = 0")  # fmt: skip
    sql(servers, "ANALYZE")
    return servers


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


async def explained(url: str, statement: str, mode: str, *arguments: Any) -> list[dict[str, Any]]:
    """The nodes of the plan, executed as the query side would, with a plan for any or for these arguments."""
    connection = await asyncpg.connect(url, server_settings={"plan_cache_mode": f"force_{mode}_plan"})
    try:
        found = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *arguments)
        return list(nodes(json.loads(found)[0]["Plan"]))
    finally:
        await connection.close()


MIDDLE = ([0], [COUNT // 2], [50])
NOWHERE: tuple[list[int], list[int], list[int]] = ([], [], [])
EVENT = "01980000-0000-7000-8000-000000000007"
MOMENT = datetime(2026, 1, 1, 12, tzinfo=UTC)

STATEMENTS: dict[str, tuple[str, tuple[Any, ...], int]] = {
    "page": (feed.PAGE, (["default"], "t", *MIDDLE, *NOWHERE, False, LIMIT), LIMIT),
    "page that is bounded": (feed.PAGE, (["default"], "t", *MIDDLE, [0], [COUNT], [50], True, LIMIT), LIMIT),
    "page at the end": (feed.PAGE, (["default"], "t", [0], [COUNT], [50], *NOWHERE, False, LIMIT), 0),
    "page of late events": (feed.PAGE, (["default"], "t", [0], [COUNT], [10], *NOWHERE, False, LIMIT), 40),
    "page of another tenant": (feed.PAGE_OF_TENANT, ("acme", "t", *MIDDLE, *NOWHERE, False, LIMIT), LIMIT),
    "late events of others": (feed.PAGE_OF_TENANT, ("acme", "t", [0], [COUNT], [0], *NOWHERE, False, 5), 0),
    "end of another tenant": (feed.PAGE_OF_TENANT, ("acme", "t", [0], [COUNT], [50], *NOWHERE, False, LIMIT), 0),
    "search for a time": (since.PROBE, ("t", MOMENT, [0, 0], [3, COUNT // 2], [COUNT, COUNT]), 2),
    "where it stands": (positions.READ_MODEL_STATE, ("t",), 0),
    "set aside": (fresh.PARKED, ("default", "t", [0], [5]), 0),
    "event": (status.EVENT, ("default", EVENT), 1),
    "letters of an event": (status.LETTERS_OF_EVENT, ("default", EVENT, "t"), 0),
    "letter": (status.LETTER_AT, ("default", "t", 0, 7), 0),
}


@pytest.mark.parametrize("mode", ["generic", "custom"])
@pytest.mark.parametrize("name", STATEMENTS)
async def test_every_statement_reads_by_index_and_only_its_own_rows(database: Servers, name: str, mode: str) -> None:
    statement, arguments, most = STATEMENTS[name]
    plan = await explained(database.query_url, statement, mode, *arguments)
    events = [node for node in plan if node.get("Relation Name") == "processed_events"]
    for node in events:
        assert node["Node Type"] in ("Index Scan", "Index Only Scan"), node
        if statement == feed.PAGE_OF_TENANT:  # it looks at no row of the others
            assert node["Index Name"] == "processed_events_by_tenant_position", node
            assert node.get("Rows Removed by Filter", 0) == 0
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in events) <= most + 1
    late = [node for node in plan if node.get("Index Name") == "late_events_by_tenant"]
    assert len(late) == (2 if statement == feed.PAGE_OF_TENANT else 0), "its own, and nobody's"
    assert sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in late) == 0
