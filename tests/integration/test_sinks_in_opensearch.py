"""A sink in a real OpenSearch: each event once in its tenant's data stream, over kills, rollovers and erasures.

It needs a distribution: OPENSEARCH_HOME names one, FOOTFALL_LONG=1 fetches it (160 MB).
"""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from contracts.record import key_of
from contracts.versions import encode_event
from footfall.local.embedded.ports import HOST
from sinks.settings import SinkSettings
from sinks.target import Document
from sinks.targets.search.cluster import SearchCluster
from tests.conftest import Footfall
from tests.drivers.opensearch import distribution, opensearch
from tests.drivers.privacy import privacy
from tests.drivers.sinks import EventsById, killed_sink, start_sink, told, wait_for_sink
from tests.patience import PATIENCE
from tests.producing import Raw, an_event, produce, record_of, some_records, sql, start_projector

STREAM = "footfall-events"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    home = distribution()
    if home is None:
        pytest.skip("no OpenSearch: OPENSEARCH_HOME names a distribution, FOOTFALL_LONG=1 fetches one")
    with opensearch(home) as found:
        yield found


def ask(url: str, method: str, path: str, body: Any = None) -> Any:
    answer = httpx.request(method, f"{url}{path}", json=body, trust_env=False)
    assert answer.status_code < 300, answer.text
    return answer.json()


def told_by_opensearch(url: str) -> EventsById:
    """What the streams have. Fails if they have an event twice."""
    ask(url, "POST", f"/{STREAM}*/_refresh")
    hits = ask(url, "POST", f"/{STREAM}*/_search", {"size": 5_000, "track_total_hits": True})["hits"]
    documents = [hit["_source"] for hit in hits["hits"]]
    found = {
        (one["tenant_id"], one["event_id"]): (
            one["user_id"],
            one["event_type"],
            datetime.fromisoformat(one["@timestamp"]).astimezone(UTC).replace(tzinfo=None),
            one["payload"],
        )
        for one in documents
    }
    assert len(found) == len(documents) == hits["total"]["value"]
    assert all(hit["_id"] == hit["_source"]["event_id"] for hit in hits["hits"])
    return found


def test_opensearch_has_each_event_once(footfall: Footfall, url: str) -> None:
    settings = {"SINK_URL": url, "BATCH_MAX_RECORDS": "100"}
    odd: list[dict[str, Any]] = [
        {"a": 1},
        {"a": "text"},
        {"a": {"b": [True, None]}},
        {".": 1, "": 2},
        {"x": "y" * 15_000},
        {"n": 10**18},
    ]
    records = [*some_records(300), *(record_of(an_event("odd", payload)) for payload in odd)]
    of_acme = an_event("eve", {"of": "acme"}, tenant_id="Acme")
    produce(footfall, [*records, *records[:30], Raw(encode_event(of_acme), key_of("Acme", "eve")), Raw(b"no event")])
    killed_sink(footfall, "opensearch", "after_rows", settings)
    ask(url, "POST", f"/{STREAM}/_rollover")  # what was written is in an index that is written no more
    killed_sink(footfall, "opensearch", "before_commit", settings)
    sink = start_sink(footfall, "opensearch", settings)
    produce(footfall, [record_of(an_event("eve", {"n": n})) for n in range(5)])
    wait_for_sink(footfall, "sink_opensearch")
    assert told_by_opensearch(url) == told(footfall)
    assert ask(url, "GET", f"/{STREAM}.+acme/_count")["count"] == 1
    letters = sql(footfall.servers, "SELECT cause FROM sink_opensearch.dead_letters")
    assert [row["cause"] for row in letters] == ["poison"]

    projector = start_projector(footfall)
    privacy(footfall, "erase", "--yes", "eve")
    wait_for_sink(footfall, "sink_opensearch")
    wanted = {name: one for name, one in told(footfall).items() if (name[0], one[0]) != ("default", "eve")}
    assert told_by_opensearch(url) == wanted
    projector.terminate()
    assert sink.terminate() == 0
    ask(url, "DELETE", f"/_data_stream/{STREAM}")  # somebody deletes it, and it is written again
    sink = start_sink(footfall, "opensearch", settings)
    wait_for_sink(footfall, "sink_opensearch")
    assert told_by_opensearch(url) == wanted
    for stream in (STREAM, f"{STREAM}.+acme"):  # while it runs
        produce(footfall, [record_of(an_event("carl", {"n": 1}))])
        wait_for_sink(footfall, "sink_opensearch")
        ask(url, "DELETE", f"/_data_stream/{stream}")
        produce(footfall, [record_of(an_event("carl", {"n": 2}))])
        assert sink.popen.wait(PATIENCE) == 1
        assert f"{stream} is not the stream that it was" in sink.log_text()
        sink = start_sink(footfall, "opensearch", settings)
        wait_for_sink(footfall, "sink_opensearch")
    wanted = {name: one for name, one in told(footfall).items() if (name[0], one[0]) != ("default", "eve")}
    assert told_by_opensearch(url) == wanted


async def test_an_event_that_a_rollover_would_double_is_removed(url: str) -> None:
    settings = SinkSettings(
        kafka_bootstrap_servers=f"{HOST}:1", database_url=SecretStr("postgresql://u:p@h/d"), sink_url=url
    )
    cluster = SearchCluster(settings)
    try:
        await cluster.open()
        event = an_event("carl", tenant_id="rolled")
        now = datetime.now(UTC)
        one = Document("rolled", event.event_id, "carl", "LOGIN", now, now, b"{}", 0, 0)
        assert await cluster.write([one], {}) == set()
        before = await cluster._indices()
        await asyncio.to_thread(ask, url, "POST", f"/{STREAM}.rolled/_rollover")
        assert await cluster._created([one], before) == set()  # as if it rolled over between the look and the bulk
        await asyncio.to_thread(ask, url, "POST", f"/{STREAM}.rolled/_refresh")
        assert (await asyncio.to_thread(ask, url, "GET", f"/{STREAM}.rolled/_count"))["count"] == 1
        assert await cluster.write([one], {}) == {one.identity}
        assert await cluster.known_good_fails() is None
    finally:
        await cluster.close()
