"""Read your writes and the life of an event, over HTTP: never a stale answer, and what is parked says so."""

import json
import os
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import (
    Raw,
    an_event,
    holding_checkpoints,
    produce,
    record_of,
    sql,
    start_projector,
    wait_until_owning,
)
from tests.tcp_proxy import TcpProxy, tcp_proxy

PAIRS = 10_000 if os.environ.get("FOOTFALL_LONG") else 500
CLIENTS = 4
EVENT = {"userId": "fay", "eventType": "PRODUCT_VIEW", "payload": {"productId": "p-1"}}


@pytest.fixture(scope="module")
def projector(shared_footfall: Footfall) -> Process:
    started = start_projector(shared_footfall)
    wait_until_owning(started, 6)
    return started


@pytest.fixture(scope="module")
def front(shared_footfall: Footfall, projector: Process) -> Process:
    return shared_footfall.start("front")


@pytest.fixture
def client(front: Process) -> Iterator[httpx.Client]:
    with patient_client(front) as found:
        yield found


def patient_client(side: Process) -> httpx.Client:
    """Waits for a position as long as the query side lets it, unless a test says otherwise."""
    return httpx.Client(base_url=side.url, timeout=PATIENCE, headers={"prefer": "wait=30"})


def post(client: httpx.Client, **fields: Any) -> tuple[str, str]:
    """The id and the position of a new event."""
    answer = client.post("/events/generate", json={**EVENT, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()["event"]["eventId"], answer.headers["footfall-position"]


def life(client: httpx.Client, event_id: str, **parameters: str) -> Any:
    answer = client.get(f"/events/{event_id}/status", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def id_of(record: Raw) -> str:
    assert record.value is not None
    found: str = json.loads(record.value)["eventId"]
    return found


def at(position: tuple[int, int]) -> str:
    return f"{position[0]}-{position[1]}"


def test_a_write_is_read_at_once_by_position(front: Process) -> None:
    """No pair is stale, and none waits for a poll."""

    posts, waits = list[float](), list[float]()

    def pairs(user: str) -> None:
        with patient_client(front) as client:
            for n in range(PAIRS // CLIENTS):
                began = time.monotonic()
                event_id, position = post(client, userId=user, payload={"n": n})
                posted = time.monotonic()
                answer = client.get(f"/events/{event_id}", headers={"footfall-position": position})
                waits.append(time.monotonic() - posted)
                posts.append(posted - began)
                assert answer.status_code == 200, f"stale: {answer.text}"

    with ThreadPoolExecutor(CLIENTS) as threads:
        assert len([*threads.map(pairs, [f"user-{n}" for n in range(CLIENTS)])]) == CLIENTS
    assert len(waits) == PAIRS
    # The fallback looks every 2 s; a machine so slow that this is nothing takes its time to post, too.
    assert statistics.median(waits) < max(0.5, 20 * statistics.median(posts))


def test_every_query_waits_and_the_parameter_is_the_header(client: httpx.Client) -> None:
    for path in ("/events/feed?since=now", "/events/processed"):
        _, position = post(client)
        joined = "&" if "?" in path else "?"
        assert client.get(f"{path}{joined}position={position}").status_code == 200
    event_id, position = post(client, userId="kay")
    events = client.get(f"/events/processed?position={position}").json()
    assert event_id in [event["eventId"] for event in events]


@pytest.mark.parametrize("given", ["1", "1-", "-1", "a-1", "1-1,", "1-1;2-2", "١-1", "1-1 2-2", ",".join(["1-1"] * 65)])
def test_what_is_no_position_is_refused(client: httpx.Client, given: str) -> None:
    assert client.get("/events/feed", params={"position": given}).status_code == 400


def test_what_is_not_reached_is_refused_and_says_how_far_it_is(client: httpx.Client) -> None:
    _, position = post(client)
    partition, offset = map(int, position.split("-"))
    assert client.get("/events/processed", headers={"footfall-position": position}).status_code == 200
    answer = client.get(
        "/events/processed", headers={"footfall-position": f"{partition}-{offset + 1_000}", "prefer": "wait=0"}
    )
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    reached_partition, reached = map(int, answer.headers["footfall-reached"].split("-"))
    assert (reached_partition, reached >= offset) == (partition, True)
    assert answer.headers["footfall-reached"] in answer.json()["error"]
    answer = client.get("/events/processed?position=77-0", headers={"prefer": "respond-async, wait=1"})
    assert answer.status_code == 503
    assert "partitions 0 to 5" in answer.json()["error"]


def test_while_the_projector_stands_still_nothing_stale_is_answered(
    client: httpx.Client, shared_footfall: Footfall
) -> None:
    with ThreadPoolExecutor(1) as thread:
        event_id, _ = post(client)  # the connection is there
        with holding_checkpoints(shared_footfall.servers):
            event_id, position = post(client)
            refused = client.get(f"/events/{event_id}", headers={"footfall-position": position, "prefer": "wait=0"})
            assert refused.status_code == 503
            disguised = client.get(f"/events/{event_id}%2Fstatus?position={position}", headers={"prefer": "wait=0"})
            assert disguised.status_code == 503  # the status waits by itself, but this is no path of it
            assert life(client, event_id) == {"eventId": event_id, "status": "unknown"}
            with_position = client.get(f"/events/{event_id}/status?position={position}", headers={"prefer": "wait=0"})
            assert with_position.json()["status"] == "accepted"
            assert with_position.json()["position"] == position
            waiting = thread.submit(
                client.get, f"/events/{event_id}", headers={"footfall-position": position, "prefer": "wait=30"}
            )
        answer = waiting.result(PATIENCE)
    assert answer.status_code == 200
    assert life(client, event_id, position=position)["status"] == "projected"


def test_parked_duplicate_and_dead_say_so(client: httpx.Client, shared_footfall: Footfall) -> None:
    def raw(user: str, value: bytes, event_id: str) -> Raw:
        return Raw(value, user.encode(), None, None, [("event-id", event_id.encode())])

    good = record_of(an_event("poll"))
    late = record_of(an_event("poll"))
    poison_id = id_of(record_of(an_event("poll")))
    once = record_of(an_event("dora"))
    records = [good, raw("poll", b"{not json", poison_id), raw("poll", late.value or b"", id_of(late)), once, once]
    places = [at(found) for found in produce(shared_footfall, records)]
    for place in (places[0], places[3]):
        assert client.get(f"/events/{id_of(good)}", params={"position": place}).status_code == 200
    parked = client.get(f"/events/{poison_id}", params={"position": places[1]})
    assert parked.status_code == 409
    assert f"position {places[1]} is parked (poison)" in parked.json()["error"]
    behind = client.get("/events/processed", params={"position": places[2]})
    assert behind.status_code == 409
    assert f"waits behind position {places[1]}" in behind.json()["error"]

    found = life(client, poison_id)
    assert (found["status"], found["position"], found["cause"], found["attempts"]) == ("parked", places[1], "poison", 1)
    assert found["reason"]
    waits = life(client, id_of(late))
    assert (waits["status"], waits["cause"], waits["waitsBehind"]) == ("parked", "behind", places[1])
    stored = life(client, id_of(once))
    assert (stored["status"], stored["position"]) == ("projected", places[3])
    again = life(client, id_of(once), position=places[4])
    assert (again["status"], again["position"], again["storedAt"]) == ("duplicate", places[4], places[3])
    sql(shared_footfall.servers, "UPDATE read_g1.dead_letters SET state = 'discarded', resolved_at = now()")
    assert life(client, poison_id)["status"] == "dead"
    assert life(client, poison_id, position=places[1])["status"] == "dead"
    assert "was discarded" in client.get("/events/feed", params={"position": places[1]}).json()["error"]
    assert life(client, id_of(record_of(an_event()))).keys() == {"eventId", "status"}
    assert client.get("/events/no-uuid/status").status_code == 400
    assert client.get(f"/events/{poison_id}/status?position=0-0,1-1").status_code == 400
    assert client.get(f"/events/{poison_id}/life").status_code == 404


@pytest.fixture
def proxy(shared_footfall: Footfall) -> Iterator[TcpProxy]:
    url = httpx.URL(shared_footfall.servers.query_url)
    with tcp_proxy(url.host, url.port or 5432) as found:
        yield found


def test_a_lost_listening_session_comes_back(shared_footfall: Footfall, client: httpx.Client, proxy: TcpProxy) -> None:
    url = proxy.in_front_of(shared_footfall.servers.query_url)
    side = shared_footfall.start("query-side", DATABASE_URL=url)
    with patient_client(side) as behind_proxy:

        def ask(event_id: str, position: str, wait: int) -> int:
            headers = {"footfall-position": position, "prefer": f"wait={wait}"}
            return behind_proxy.get(f"/events/{event_id}", headers=headers).status_code

        for _ in range(2):
            assert [ask(*post(client), 30) for _ in range(3)] == [200] * 3
            proxy.cut()
            event_id, position = post(client)
            assert ask(event_id, position, 1) == 503
            proxy.mend()
            asked = (event_id, position)
            wait_until(lambda: ask(*asked, 5) == 200, 20, "the read model to be back")  # noqa: B023 - called at once
    assert side.terminate() == 0
