"""The sealed log: who acted and what is readable for who has the key, and for nobody once it is destroyed."""

import json
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from contracts.versions import encode_event
from tests.conftest import Footfall
from tests.drivers.erasure import assert_rebuilt_the_same, counts, hits
from tests.drivers.privacy import privacy
from tests.drivers.rebuilding import OLD, dlq
from tests.drivers.sealed import KeyStoreOfTest, in_segments, key_store_of
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import Raw, an_event, produce, record_of, sql, start_projector

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


def test_letters_stay_sealed_and_are_redriven_and_plain_records_are_read_beside_sealed_ones(
    footfall: Footfall, keys: KeyStoreOfTest, tmp_path: Path
) -> None:
    produce(footfall, [record_of(an_event("before")), record_of(an_event(CANARY, {"productId": "p-plain"}))])
    v2 = msgspec.structs.replace(an_event("of-acme"), tenant_id="acme")
    produce(footfall, [Raw(encode_event(v2), b"acme\x1fof-acme")])
    front = start_front(footfall, keys)
    post(front, CANARY, 1)
    sql(
        footfall.servers,
        "ALTER TABLE read_g1.processed_events ADD CONSTRAINT refused CHECK (payload ->> 'note' IS NULL)",
    )
    projector = start_projector(footfall, **keys.environment())
    wait_until(lambda: len(letters(footfall)) == 1, PATIENCE, "the letter")
    [letter] = letters(footfall)
    assert b'"sealed":"' in letter["record_value"]
    assert SECRET.encode() not in letter["record_value"]
    assert not hits(footfall, SECRET, OLD)
    post(front, "neighbour", 2)
    wait_until(lambda: len(letters(footfall)) == 2, PATIENCE, "the letter of the neighbour")
    changed = letters(footfall)[1]["record_value"].replace(b'"p-2"', b'"p-3"')
    produce(footfall, [Raw(changed, b"someone"), Raw(b'{"version":"3.0","eventId":"x"}', b"someone-else")])
    wait_until(lambda: len(letters(footfall)) == 4, PATIENCE, "the letters that can never be opened")
    assert {row["error_class"] for row in letters(footfall)} == {"CheckViolationError", "InvalidSeal"}
    sql(footfall.servers, "ALTER TABLE read_g1.processed_events DROP CONSTRAINT refused")
    dlq(footfall, "redrive", keys=keys.environment())
    wait_until(lambda: stored(footfall) == 5, PATIENCE, "the rows")
    page = httpx.get(f"{front.url}/events/processed", params={"userId": CANARY}).json()
    assert sorted(event["payload"]["productId"] for event in page) == ["p-1", "p-plain"]
    assert [row["state"] for row in letters(footfall)] == ["redriven", "redriven", "parked", "parked"]

    out = json.loads(privacy(footfall, "erase", CANARY, "--yes", "--json", keys=keys.environment()))
    assert out["done"], out
    assert len(keys.sql("SELECT FROM key_store.subjects")) == 1
    assert hits(footfall, CANARY, OLD) == {} == hits(footfall, f"{SECRET} 1", OLD)
    assert in_segments(f"{footfall.topic}-dlq", SECRET) == set()
    assert_rebuilt_the_same(footfall)
    assert CANARY not in projector.log_text()


def letters(footfall: Footfall) -> list[Any]:
    return sql(footfall.servers, "SELECT * FROM read_g1.dead_letters ORDER BY parked_at, kafka_offset")
