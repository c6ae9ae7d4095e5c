"""A sink in an emulator of BigQuery: each event once, over kills and erasures, and positions beside the events.

It needs `bqemulator`: BQEMULATOR_ENV names a virtual environment, FOOTFALL_LONG=1 makes one.
"""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from sinks.targets.bigquery.rest_api import RestApi
from tests.conftest import Footfall
from tests.drivers.bigquery import DATASET, PROJECT, bigquery, environment
from tests.drivers.privacy import privacy
from tests.drivers.sinks import EventsById, killed_sink, positions, start_sink, told, wait_for_sink
from tests.producing import Raw, an_event, produce, record_of, some_records, sql, start_projector

SCHEMA = "sink_bigquery"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    home = environment()
    if home is None:
        pytest.skip("no emulator of BigQuery: BQEMULATOR_ENV names one, FOOTFALL_LONG=1 makes one")
    with bigquery(home) as found:
        yield found


def rows(url: str, columns: str, table: str) -> list[list[Any]]:
    async def asked() -> list[list[Any]]:
        api = RestApi(url, PROJECT, None)
        try:
            return await api.query(f"SELECT {columns} FROM `{PROJECT}.{DATASET}.{table}`")
        finally:
            await api.close()

    return asyncio.run(asked())


def told_by_bigquery(url: str) -> EventsById:
    """What the dataset has. Fails if it has an event twice."""
    found = rows(url, "tenant_id, event_id, user_id, event_type, UNIX_MICROS(occurred_at), payload", "events")
    kept = {
        (tenant, event_id): (
            user,
            kind,
            datetime.fromtimestamp(int(at) // 1_000_000, UTC).replace(tzinfo=None, microsecond=int(at) % 1_000_000),
            json.loads(payload),
        )
        for tenant, event_id, user, kind, at, payload in found
    }
    assert len(kept) == len(found)
    return kept


def test_bigquery_has_each_event_once(footfall: Footfall, url: str) -> None:
    settings = {
        "SINK_BIGQUERY_DATASET": f"{PROJECT}.{DATASET}",
        "SINK_BIGQUERY_URL": url,
        "BATCH_MAX_RECORDS": "100",
    }
    odd: list[dict[str, Any]] = [{"a": {"b": [True, None]}}, {".": 1, "": "it's"}, {"x": "y" * 15_000}, {"n": 10**18}]
    records = [*some_records(150), *(record_of(an_event("odd", payload)) for payload in odd)]
    produce(footfall, [*records, *records[:20], Raw(b"no event"), *(record_of(an_event("eve")) for _ in range(4))])
    killed_sink(footfall, "bigquery", "after_rows", settings)
    sink = start_sink(footfall, "bigquery", settings)
    wait_for_sink(footfall, SCHEMA)
    assert told_by_bigquery(url) == told(footfall)
    assert [row["cause"] for row in sql(footfall.servers, f"SELECT cause FROM {SCHEMA}.dead_letters")] == ["poison"]
    kept = {int(partition): int(offset) for partition, offset in rows(url, "*", "positions") if int(partition) >= 0}
    assert kept == {p: offset for p, offset in positions(footfall, SCHEMA).items() if offset}

    projector = start_projector(footfall)
    privacy(footfall, "erase", "--yes", "eve")
    wait_for_sink(footfall, SCHEMA)
    wanted = {name: one for name, one in told(footfall).items() if one[0] != "eve"}
    assert told_by_bigquery(url) == wanted
    projector.terminate()
    assert sink.terminate() == 0
