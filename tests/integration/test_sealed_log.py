"""The sealed log: who acted and what is readable for who has the key, and for nobody once it is destroyed."""

from typing import Any

import httpx
import pytest

from tests.conftest import Footfall
from tests.drivers.erasure import assert_rebuilt_the_same, counts, hits
from tests.drivers.rebuilding import OLD
from tests.drivers.sealed import KeyStoreOfTest, in_segments, key_store_of
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import sql, start_projector

CANARY = "alice+canary@example.com"
SECRET = "payload-canary"


@pytest.fixture
def keys(footfall: Footfall) -> KeyStoreOfTest:
    return key_store_of(footfall)


def start_front(footfall: Footfall, keys: KeyStoreOfTest, **environment: str) -> Process:
    """A front that seals; nothing is compressed, so that a scan of bytes finds what is there."""
    return footfall.start("front", ready=True, KAFKA_COMPRESSION="none", **keys.environment(), **environment)


def post(front: Process, user: str, n: int = 0, event_type: str = "PRODUCT_VIEW") -> dict[str, Any]:
    command = {"userId": user, "eventType": event_type, "payload": {"productId": f"p-{n}", "note": f"{SECRET} {n}"}}
    answer = httpx.post(f"{front.url}/events/generate", json=command)
    assert answer.status_code == 201, answer.text
    event: dict[str, Any] = answer.json()["event"]
    assert {name: event[name] for name in command} == command
    return event


def stored(footfall: Footfall) -> int:
    return int(sql(footfall.servers, "SELECT count(*) FROM read_g1.processed_events")[0][0])


def test_an_erased_user_is_nowhere_and_every_count_stays(footfall: Footfall, keys: KeyStoreOfTest) -> None:
    front = start_front(footfall, keys)
    projector = start_projector(footfall, **keys.environment())
    posted = [post(front, CANARY, n, ("LOGIN", "PRODUCT_VIEW", "LOGOUT")[n % 3]) for n in range(9)]
    others = [post(front, f"user-{n % 3}", n) for n in range(6)]
    wait_until(lambda: stored(footfall) == 15, PATIENCE, "the rows")
    assert in_segments(footfall.topic, CANARY, SECRET, "LOGIN", "p-4") == {"LOGIN", "p-4"}
    page = httpx.get(f"{front.url}/events/processed", params={"userId": CANARY}).json()
    assert {event["eventId"]: event for event in page} == {event["eventId"]: event for event in posted}
    assert hits(footfall, CANARY, OLD).keys() >= {"processed_events", "user_activity"}
    before = counts(footfall)

    assert httpx.delete(f"{front.url}/users/{CANARY}").status_code == 202
    wait_until(lambda: not keys.sql("SELECT FROM key_store.erasures"), PATIENCE, "the keys to be destroyed")
    assert hits(footfall, CANARY, OLD) == {} == hits(footfall, CANARY, "ops")
    assert counts(footfall) == before
    assert len(keys.sql("SELECT FROM key_store.subjects")) == 3
    assert in_segments(footfall.topic, CANARY, SECRET) == set()

    post(front, CANARY, 99)
    wait_until(lambda: stored(footfall) == 7, PATIENCE, "the user to be back, as a new one")
    assert len(httpx.get(f"{front.url}/users/{CANARY}/events").json()) == 1
    assert_rebuilt_the_same(footfall)
    assert len(others) == 6
    assert CANARY not in projector.log_text() + front.log_text()
    assert "batch_failed" not in projector.log_text()
