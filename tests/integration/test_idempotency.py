"""Retried commands are one event: over HTTP, through Kafka, in PostgreSQL, while processes die."""

import json
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any
from uuid import UUID

import httpx
import pytest

from contracts.derived_ids import KeySpace, derived_event_id
from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import rows, wait_until_processed
from tests.topic_reader import records_of

GENERATE = "/events/generate"
COMMAND: dict[str, Any] = {"userId": "user-1", "eventType": "PRODUCT_VIEW", "payload": {"a": 1, "b": [2]}}
LONG = bool(os.environ.get("FOOTFALL_LONG"))
KEYS, TRIES, KILLS = (1_000, 20, 5) if LONG else (100, 10, 1)

_numbers = count(1)


@pytest.fixture(scope="module")
def side(shared_footfall: Footfall) -> Process:
    return shared_footfall.start("command-side")


@pytest.fixture
def client(side: Process) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=side.url, timeout=PATIENCE) as found:
        yield found


@pytest.fixture
def key() -> str:
    return f"key-{next(_numbers)}"


def post(client: httpx.Client, key: str, command: dict[str, Any] = COMMAND) -> httpx.Response:
    return client.post(GENERATE, json=command, headers={"idempotency-key": key})


def test_a_repeat_is_the_same_answer_and_one_record(client: httpx.Client, shared_footfall: Footfall, key: str) -> None:
    first, again = post(client, key), post(client, key)
    reordered = post(client, key, {"payload": {"b": [2], "a": 1}, "eventType": "PRODUCT_VIEW", "userId": "user-1"})
    assert {answer.status_code for answer in (first, again, reordered)} == {201}
    assert first.content == again.content == reordered.content
    for name in ("location", "footfall-position"):
        assert first.headers[name] == again.headers[name] == reordered.headers[name]
    event_id = UUID(first.json()["event"]["eventId"])
    assert event_id == derived_event_id(KeySpace("default"), key.encode())
    records = [
        r for r in records_of(shared_footfall.servers.kafka, shared_footfall.topic) if str(event_id).encode() in r.value
    ]
    assert len(records) == 1
    assert dict(records[0].headers).keys() == {"event-type", "event-id", "request-id", "command-fingerprint"}


@pytest.mark.parametrize(
    "another",
    [
        {**COMMAND, "userId": "user-2"},
        {**COMMAND, "eventType": "LOGIN"},
        {**COMMAND, "payload": {"a": 2, "b": [2]}},
        {"userId": "user-1", "eventType": "PRODUCT_VIEW"},
    ],
)
def test_another_command_under_the_same_key_is_422(client: httpx.Client, key: str, another: dict[str, Any]) -> None:
    assert post(client, key).status_code == 201
    answer = post(client, key, another)
    error = "The Idempotency-Key was used for another command. Nothing was recorded; use a new key for a new command."
    assert answer.status_code == 422
    assert answer.json() == {"success": False, "event": None, "errors": None, "error": error}
    assert "location" not in answer.headers
    assert post(client, key).status_code == 201


def test_an_invalid_command_takes_no_key(client: httpx.Client, key: str) -> None:
    assert post(client, key, {"userId": "user-1"}).status_code == 400
    assert post(client, key).status_code == 201


@pytest.mark.parametrize("value", [b"", b"x" * 256, b"a b", b"\xc3\xa9", b"a\tb", b'"k', b'""', b'"a b"'])
def test_a_key_that_is_none_is_400(client: httpx.Client, value: bytes) -> None:
    answer = client.post(GENERATE, json=COMMAND, headers=[(b"idempotency-key", value)])
    error = "The header `Idempotency-Key` must be 1 to 255 visible ASCII characters, bare or in quotes, once."
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_two_keys_on_one_request_are_400(client: httpx.Client) -> None:
    answer = client.post(GENERATE, json=COMMAND, headers=[("idempotency-key", "a"), ("idempotency-key", "a")])
    assert answer.status_code == 400


def test_concurrent_repeats_share_one_record(client: httpx.Client, shared_footfall: Footfall, key: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: post(client, key), range(64)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    event_id = answers[0].json()["event"]["eventId"].encode()
    records = records_of(shared_footfall.servers.kafka, shared_footfall.topic)
    assert sum(dict(record.headers)["event-id"] == event_id for record in records) == 1


def test_another_process_answers_with_the_same_event_id(
    client: httpx.Client, shared_footfall: Footfall, key: str
) -> None:
    other = shared_footfall.start("command-side", IDEMPOTENCY_WINDOW_MS="0")
    with httpx.Client(base_url=other.url, timeout=PATIENCE) as elsewhere:
        ids = [post(where, key).json()["event"]["eventId"] for where in (client, elsewhere, client, elsewhere)]
        assert len(set(ids)) == 1
        # what this one has forgotten is no conflict here: the projector counts it
        assert post(elsewhere, key, {**COMMAND, "eventType": "LOGIN"}).status_code == 201


class Sides:
    """Two command sides, of which now and then one is killed and started anew."""

    def __init__(self, footfall: Footfall) -> None:
        self._footfall = footfall
        self.running = [footfall.start("command-side"), footfall.start("command-side")]

    def kill_one(self, which: int) -> None:
        self.running[which].kill()
        self.running[which] = self._footfall.start("command-side")


@pytest.mark.timeout(1_800 if LONG else 600)
def test_racing_retries_while_processes_die_are_one_event_for_each_key(footfall: Footfall) -> None:
    """FOOTFALL_LONG=1: 1,000 keys x 20 tries, five kills."""
    sides = Sides(footfall)
    footfall.start("projector")
    answered: list[dict[str, Any]] = []
    lost = count()
    progress = threading.Semaphore(0)

    def one_try(number: int) -> None:
        chosen = random.Random(number)
        body = {"userId": f"user-{number % KEYS % 37}", "eventType": "LOGIN", "payload": {"n": number % KEYS}}
        for attempt in count():
            url = sides.running[(number + attempt) % 2].url
            try:
                answer = clients[chosen.randrange(len(clients))].post(
                    url + GENERATE, json=body, headers={"idempotency-key": f"race-{number % KEYS}"}
                )
            except httpx.TransportError:
                next(lost)
                continue
            assert answer.status_code in (201, 503), answer.text
            if answer.status_code == 201:
                answered.append(answer.json()["event"])
                progress.release()
                return

    clients = [httpx.Client(timeout=PATIENCE) for _ in range(8)]
    order = random.Random(1).sample(range(KEYS * TRIES), KEYS * TRIES)
    with ThreadPoolExecutor(24) as pool:
        tries = [pool.submit(one_try, number) for number in order]
        for kill in range(KILLS):
            for _ in range(KEYS * TRIES // (KILLS + 2)):  # in the midst of it
                assert progress.acquire(timeout=PATIENCE)
            sides.kill_one(kill % 2)
        for one in tries:
            one.result(600 if LONG else 110)
    for client in clients:
        client.close()
    assert next(lost) > 0, "no try was ever in a process that died"
    assert len(answered) == KEYS * TRIES
    expected = {str(derived_event_id(KeySpace("default"), f"race-{n}".encode())): n for n in range(KEYS)}
    assert all(expected[event["eventId"]] == event["payload"]["n"] for event in answered)

    records = records_of(footfall.servers.kafka, footfall.topic)
    assert {dict(record.headers)["event-id"].decode() for record in records} == expected.keys()
    wait_until_processed(footfall, len(records))
    stored = rows(footfall)
    assert len(stored) == KEYS
    assert {str(row["event_id"]): json.loads(row["event_json"])["payload"]["n"] for row in stored} == expected


def test_a_conflict_that_only_the_projector_sees_is_counted_and_the_first_is_kept(footfall: Footfall) -> None:
    side, projector = footfall.start("command-side", IDEMPOTENCY_WINDOW_MS="0"), footfall.start("projector")
    with httpx.Client(base_url=side.url, timeout=PATIENCE) as client:
        for payload in ({"n": 1}, {"n": 1}, {"n": 2}):
            assert post(client, "twice", {**COMMAND, "payload": payload}).status_code == 201
    wait_until_processed(footfall, 3)
    [row] = rows(footfall)
    assert json.loads(row["event_json"])["payload"] == {"n": 1}
    counted = 'idempotency_conflicts_total{generation="read_g1"} 1.0'
    wait_until(lambda: counted in httpx.get(f"{projector.url}/metrics").text, 10, "the conflict to be counted")
