"""The feed on the real servers: by pages and as a stream, in the log's order, nothing skipped, nothing repeated."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.conftest import Footfall
from tests.feeds import FEED, STREAM, Received, page, read_all, stream
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import (
    Raw,
    an_event,
    metric,
    produce,
    record_of,
    some_records,
    start_projector,
    wait_until_processed,
)

COUNT = 500


@pytest.fixture(scope="module")
def produced(shared_footfall: Footfall) -> dict[str, tuple[int, int]]:
    """Event id to position of the events that are there before the tests, one a second from the first of January."""
    began = datetime(2026, 1, 1, tzinfo=UTC)
    records = []
    for n, record in enumerate(some_records(COUNT)):
        at = began + timedelta(seconds=n)
        records.append(Raw(record.value, record.key, None, int(at.timestamp() * 1000)))
    positions = produce(shared_footfall, records)
    start_projector(shared_footfall)
    wait_until_processed(shared_footfall, COUNT)
    return {id_of(record): at for record, at in zip(records, positions, strict=True)}


@pytest.fixture(scope="module")
def side(shared_footfall: Footfall, produced: Any) -> Process:
    return shared_footfall.start("query-side", STREAM_HEARTBEAT_MS="300", MAX_STREAMS="20")


@pytest.fixture
def client(side: Process) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=side.url, timeout=PATIENCE) as found:
        yield found


def id_of(record: Raw) -> str:
    assert record.value is not None
    found: str = json.loads(record.value)["eventId"]
    return found


def ids(events: list[Any]) -> list[str]:
    return [event["eventId"] for event in events]


def assert_log_order(found: list[str], positions: dict[str, tuple[int, int]]) -> None:
    """Each event once, and those of a partition by offset."""
    assert len(found) == len(set(found))
    for partition in {position[0] for position in positions.values()}:
        here = [positions[one][1] for one in found if positions[one][0] == partition]
        assert here == sorted(here)


@pytest.mark.parametrize("limit", [1_000, 7])
def test_pages_are_in_log_order_and_end_where_the_read_model_stands(
    client: httpx.Client, produced: dict[str, tuple[int, int]], limit: int
) -> None:
    events, cursor = read_all(client, limit=limit)
    found = [one for one in ids(events) if one in produced]
    assert set(found) == produced.keys()
    assert_log_order(found, produced)
    assert found == list(produced)  # merged by the records' times, which follow each other here
    assert page(client, cursor, limit) == ([], cursor, False)


def test_the_same_cursor_gives_the_same_page(client: httpx.Client) -> None:
    _, cursor, _ = page(client, "beginning", 50)
    assert page(client, cursor, 50) == page(client, cursor, 50)


def test_since_a_time_begins_at_the_first_record_of_that_time(
    client: httpx.Client, produced: dict[str, tuple[int, int]]
) -> None:
    for since in ("2026-01-01T00:02:00Z", "2026-01-01T01:02:00+01:00", "2026-01-01T00:01:59.000001Z"):
        events, _ = read_all(client, since, 1_000)
        assert [one for one in ids(events) if one in produced] == list(produced)[120:]
    assert len(read_all(client, "2020-01-01", 1_000)[0]) >= COUNT
    assert page(client, "2999-01-01T00:00:00Z")[0] == []
    assert page(client, "now")[0] == []


@pytest.mark.parametrize(
    "query",
    ["since=yesterday", "since=", "limit=0", "limit=1001", "limit=x", "order=asc", "since=now&since=now", "limit=%00"],
)
def test_what_is_not_understood_is_refused(client: httpx.Client, query: str) -> None:
    answer = client.get(f"{FEED}?{query}")
    assert answer.status_code == 400
    assert answer.json()["errors"]


def test_cursors_of_others_are_refused(client: httpx.Client) -> None:
    _, cursor, _ = page(client, "beginning", 50)
    changed = cursor[:-2] + ("A" if cursor[-2] != "A" else "B") + cursor[-1]
    for wrong in (changed, cursor[:-1], cursor + "A", "A" * 60):
        assert client.get(FEED, params={"since": wrong}).status_code == 400
        assert client.get(STREAM, headers={"last-event-id": wrong}).status_code == 400


def test_a_stream_tells_what_comes_and_goes_on_where_it_ended(
    side: Process, client: httpx.Client, shared_footfall: Footfall
) -> None:
    told = Received()
    with stream(side.url, told) as live:
        assert live.status == 200
        assert "text/event-stream" in live.head
        live.read_until(lambda told: bool(told.last_id))  # from here on nothing is missed
        first = [record_of(an_event("kim", {"n": n})) for n in range(5)]
        produce(shared_footfall, first)
        live.read_until(lambda told: len(told.events) >= 5)
        live.read_until(lambda told: "heartbeat" in told.comments[-1])
    assert told.ids() == [id_of(record) for record in first]
    second = [record_of(an_event("kim", {"n": n})) for n in range(5)]
    produce(shared_footfall, second)
    with stream(side.url, told) as again:
        again.read_until(lambda told: len(told.events) >= 10)
        third = [record_of(an_event("kim", {"n": n})) for n in range(5)]
        produce(shared_footfall, third)
        again.read_until(lambda told: len(told.events) >= 15)
    assert told.ids() == [id_of(record) for record in (*first, *second, *third)]
    kinds = {kind for kind, _ in told.events}
    assert kinds == {"PRODUCT_VIEW"}
    assert page(client, told.last_id)[0] == []  # a stream's event id is a cursor of the pages


def test_a_stream_since_the_beginning_tells_everything_and_goes_live(
    side: Process, produced: dict[str, tuple[int, int]], shared_footfall: Footfall
) -> None:
    with stream(side.url, since="beginning") as live:
        live.read_until(lambda told: produced.keys() <= set(told.ids()) if len(told.events) >= COUNT else False)
        fresh = record_of(an_event("liv"))
        produce(shared_footfall, [fresh])
        told = live.read_until(lambda told: bool(told.events) and id_of(fresh) in told.events[-1][1])
    found = told.ids()
    assert len(found) == len(set(found))
    assert_log_order([one for one in found if one in produced], produced)


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        ({"userId": "ada"}, lambda one: one["userId"] == "ada"),
        ({"eventType": ["LOGIN", "LOGOUT"]}, lambda one: one["eventType"] != "PRODUCT_VIEW"),
        ({"productId": "p-7"}, lambda one: one["payload"].get("productId") == "p-7"),
        ({"userId": "ada", "eventType": "PRODUCT_VIEW"}, lambda one: one["userId"] == "ada" and "p" in str(one)),
    ],
    ids=["user", "types", "product", "both"],
)
def test_a_stream_is_filtered_live_and_while_it_catches_up(
    side: Process, shared_footfall: Footfall, wanted: dict[str, Any], takes: Callable[[Any], bool]
) -> None:
    def some(marker: str) -> list[Raw]:
        return [
            record_of(an_event(user, {"productId": product, "m": marker}, event_type=kind))
            for user in ("ada", "bob")
            for kind, product in (("LOGIN", ""), ("PRODUCT_VIEW", "p-7"), ("PRODUCT_VIEW", "p-8"), ("LOGOUT", "p-7"))
        ]

    before, after = some("before"), some("after")
    with httpx.Client(base_url=side.url) as client:
        _, cursor, _ = page(client, "now")
    positions = produce(shared_footfall, before)
    wait_until_passed_by(side, positions)
    told = Received(last_id=cursor)
    with stream(side.url, told, **wanted) as live:
        expected = [one for one in map(event_of, (*before, *after)) if matches(one, wanted)]
        live.read_until(lambda told: len(told.events) >= len(expected) // 2)
        produce(shared_footfall, after)
        live.read_until(lambda told: len(told.events) >= len(expected))
    assert sorted(told.ids()) == sorted(one["eventId"] for one in expected)
    assert all(takes(json.loads(data)) for _, data in told.events)
    with httpx.Client(base_url=side.url) as client:
        answer = client.get(STREAM, params={"eventType": "DANCE"})
        assert answer.status_code == 400


def event_of(record: Raw) -> Any:
    assert record.value is not None
    return json.loads(record.value)


def matches(event: Any, wanted: dict[str, Any]) -> bool:
    kinds = wanted.get("eventType", event["eventType"])
    product = event["payload"]["productId"] if event["eventType"] == "PRODUCT_VIEW" else None
    return (
        wanted.get("userId", event["userId"]) == event["userId"]
        and event["eventType"] in ([kinds] if isinstance(kinds, str) else kinds)
        and ("productId" not in wanted or product == wanted["productId"])
    )


def wait_until_passed_by(side: Process, positions: list[tuple[int, int]]) -> None:
    """Waits as a client does: with positions."""
    named = ",".join(f"{partition}-{offset}" for partition, offset in positions)
    answer = httpx.get(f"{side.url}{FEED}?since=now&position={named}", headers={"prefer": "wait=30"}, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text


def test_more_streams_than_allowed_are_refused_and_a_place_is_free_again(side: Process) -> None:
    # Who closes a connection may still read: its place is free once it has got nothing for five seconds.
    wait_until(lambda: metric(side, "streams_open") == 0, 20, "the streams of other tests to end")
    clients = []
    try:
        for _ in range(20):
            with_one = stream(side.url)
            clients.append(with_one)
            assert with_one.__enter__().status == 200
        answer = httpx.get(f"{side.url}{STREAM}")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        clients.pop().__exit__(None, None, None)
        wait_until(lambda: metric(side, "streams_open") == 19, 20, "a place to be free")
        with stream(side.url) as again:
            assert again.status == 200
    finally:
        for one in clients:
            one.__exit__(None, None, None)
