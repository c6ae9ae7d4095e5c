"""`POST /events/generate/batch` over real HTTP and a real Kafka: a result for each item, in order."""

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import pytest

from command_side.api.batch import overall
from contracts.derived_ids import KeySpace, derived_event_id
from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.processes import Process
from tests.topic_reader import records_of

BATCH = "/events/generate/batch"
GENERATE = "/events/generate"
NDJSON = {"content-type": "application/x-ndjson"}
USER_ID = "Field `userId` must be a string of 1 to 256 characters without control characters."
BAD_KEY = "Field `idempotencyKey` must be a string of 1 to 255 visible ASCII characters."

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
    return f"batch-key-{next(_numbers)}"


def command(n: int = 0, **more: Any) -> dict[str, Any]:
    return {"userId": f"user-{n % 7}", "eventType": "LOGIN", "payload": {"n": n}, **more}


def recorded(footfall: Footfall) -> dict[str, tuple[str, bytes]]:
    """Event id to position and value, of the whole topic."""
    return {
        dict(record.headers)["event-id"].decode(): (f"{record.partition}-{record.offset}", record.value)
        for record in records_of(footfall.servers.kafka, footfall.topic)
    }


@pytest.mark.parametrize("lines", [False, True], ids=["array", "ndjson"])
def test_a_thousand_items_are_in_kafka_in_order(client: httpx.Client, shared_footfall: Footfall, lines: bool) -> None:
    items = [command(n) for n in range(1_000)]
    if lines:
        body = b"\n\n".join(json.dumps(item).encode() for item in items) + b"\r\n"
        answer = client.post(BATCH, content=body, headers=NDJSON)
    else:
        answer = client.post(BATCH, json=items)
    assert answer.status_code == 201, answer.text[:500]
    body_ = answer.json()
    results = body_.pop("results")
    assert body_ == {"success": True, "accepted": 1_000, "rejected": 0, "unknown": 0}
    stored = recorded(shared_footfall)
    offsets: dict[str, list[tuple[str, int]]] = {}
    for item, result in zip(items, results, strict=True):
        event = result["event"]
        assert result == {
            "status": 201,
            "success": True,
            "event": event,
            "errors": None,
            "error": None,
            "position": result["position"],
        }
        assert {name: event[name] for name in item} == item
        position, value = stored[event["eventId"]]
        assert (position, json.loads(value)) == (result["position"], event)
        partition, offset = position.split("-")
        offsets.setdefault(item["userId"], []).append((partition, int(offset)))
    assert all(found == sorted(found) for found in offsets.values())


MIXED = [command(1), {"userId": ""}, command(2), command(3, idempotencyKey=""), "text", command(4, idempotencyKey=5)]


def test_valid_items_are_published_though_others_are_invalid(client: httpx.Client, shared_footfall: Footfall) -> None:
    answer = client.post(BATCH, json=MIXED)
    body = answer.json()
    assert answer.status_code == 207
    assert (body["success"], body["accepted"], body["rejected"], body["unknown"]) == (False, 2, 4, 0)
    assert [result["status"] for result in body["results"]] == [201, 400, 201, 400, 400, 400]
    errors = [result["errors"] for result in body["results"]]
    assert errors[1][-1] == USER_ID
    assert errors[3:] == [[BAD_KEY], ["The JSON must be an object."], [BAD_KEY]]
    assert list(body["results"][1]) == ["status", "success", "event", "errors", "error"]
    assert {body["results"][n]["event"]["eventId"] for n in (0, 2)} <= recorded(shared_footfall).keys()


def test_atomic_is_all_or_none(client: httpx.Client, shared_footfall: Footfall, key: str) -> None:
    before = len(recorded(shared_footfall))
    refused = client.post(f"{BATCH}?atomic=true", json=MIXED)
    assert refused.status_code == 400
    assert [result["status"] for result in refused.json()["results"]] == [424, 400, 424, 400, 400, 400]
    assert client.post(GENERATE, json=command(), headers={"idempotency-key": key}).status_code == 201
    fresh = f"{key}-fresh"
    conflicting = [command(1, idempotencyKey=fresh), command(2, idempotencyKey=key)]
    conflict = client.post(f"{BATCH}?atomic=true", json=conflicting)
    assert (conflict.status_code, [r["status"] for r in conflict.json()["results"]]) == (422, [424, 422])
    assert len(recorded(shared_footfall)) == before + 1
    # a key whose item was held back is still free for any command
    whole = client.post(f"{BATCH}?atomic=true", json=[command(9, idempotencyKey=fresh), command(3)])
    assert (whole.status_code, whole.json()["accepted"]) == (201, 2)


def test_keys_of_items_make_repeats_one_event(client: httpx.Client, shared_footfall: Footfall, key: str) -> None:
    items = [command(n, idempotencyKey=f"{key}-{n % 5}") for n in (0, 1, 2, 3, 4)]
    twice_in_one = [*items, items[0], command(0, idempotencyKey=f"{key}-1")]
    first, again = client.post(BATCH, json=twice_in_one), client.post(BATCH, json=items)
    assert [r["status"] for r in first.json()["results"]] == [201] * 6 + [422]
    assert first.status_code == 207
    assert first.json()["results"][5] == first.json()["results"][0]
    assert again.json()["results"] == first.json()["results"][:5]
    alone = client.post(GENERATE, json=command(0), headers={"idempotency-key": f"{key}-0"})
    assert alone.json()["event"] == first.json()["results"][0]["event"]
    ids = [derived_event_id(KeySpace("default"), f"{key}-{n}".encode()) for n in range(5)]
    assert [r["event"]["eventId"] for r in again.json()["results"]] == [str(one) for one in ids]
    written = records_of(shared_footfall.servers.kafka, shared_footfall.topic)
    assert sum(dict(r.headers)["event-id"].decode() == str(ids[0]) for r in written) == 1


MANY = [{"userId": "u", "eventType": "LOGIN"}]


@pytest.mark.parametrize(
    ("sent", "status", "problem"),
    [
        ({"json": []}, 400, "The batch is empty."),
        ({"content": b"\n\n", "headers": NDJSON}, 400, "The batch is empty."),
        ({"json": {"userId": "u"}}, 400, "The body must be a JSON array of commands."),
        ({"content": b"[{}"}, 400, "The JSON is not valid: it was truncated."),
        ({"content": b"[{},{,}]"}, 400, "The JSON is not valid: expected '\"' (byte 5)."),
        (
            {"content": b"\xef\xbb\xbf[{}]"},
            400,
            "The JSON is not valid: it begins with a byte order mark (EF BB BF); it must be plain JSON in UTF-8.",
        ),
        ({"content": b"[" * 500_000}, 400, "The JSON is nested deeper than 16 levels."),
        ({"content": b'["\xff"]'}, 400, None),
        ({"json": MANY * 1_001}, 400, "The batch has more than 1,000 items."),
        ({"content": b" " * 1_048_577}, 413, "The body is larger than 1024 KiB."),
        ({"content": iter([b" " * 1_048_577])}, 413, "The body is larger than 1024 KiB."),
        ({"content": b"[]", "headers": {"content-type": "text/csv"}}, 415, None),
        ({"json": MANY, "params": {"atomic": "yes"}}, 400, "The only query parameter is `atomic`: true or false."),
        ({"json": MANY, "params": {"other": "1"}}, 400, "The only query parameter is `atomic`: true or false."),
        ({"json": MANY, "headers": {"idempotency-key": "k"}}, 400, None),
        ({"json": MANY, "params": {"atomic": "false"}}, 201, None),
    ],
)
def test_requests_that_cannot_be_taken_as_a_whole(
    client: httpx.Client, sent: dict[str, Any], status: int, problem: str | None
) -> None:
    answer = client.post(BATCH, **sent)
    assert answer.status_code == status, answer.text
    if status != 201:
        body = answer.json()
        if "results" not in body:
            assert list(body) == ["success", "event", "errors", "error"]
        if problem is not None:
            assert problem in (body["errors"] or [body["error"]])


def test_get_is_405(client: httpx.Client) -> None:
    answer = client.get(BATCH)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ([201, 201], 201),
        ([201, 400], 207),
        ([201, 500], 207),
        ([400, 400], 400),
        ([400, 422], 400),
        ([422], 422),
        ([424, 400], 400),
        ([424, 422], 422),
        ([500, 500], 500),
        ([500, 400], 400),
        ([201, 503], 503),
        ([400, 503], 503),
    ],
)
def test_one_status_sums_up_all(statuses: list[int], status: int) -> None:
    assert overall(statuses) == status
