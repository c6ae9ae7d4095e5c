"""The command side over real HTTP and a real Kafka: the contract as a table, and what happens around it."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest

from command_side.app import CommandSide
from command_side.publishing.event_log import SOMEWHERE, Submitted
from command_side.settings import CommandSettings
from command_side.submission import Commands
from contracts.event import ActivityCommand, create_user_event
from contracts.record import to_record
from tests.conftest import Footfall
from tests.drivers.identity import OPEN
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import Process
from tests.servers import Servers
from tests.shipped_types import SHIPPED
from tests.topic_reader import read_topic, records_of
from web.application import web_app

GENERATE = "/events/generate"
COMMAND = {"userId": "user-1", "eventType": "LOGIN"}
BODY_TIMEOUT = 0.8  # seconds
TICK = 0.005  # seconds; the event loop counts in whole milliseconds and may be that much early
DEADLINE = 1.0  # seconds
SLACK = 2.0  # seconds that a busy machine may add to a deadline
SECURE = {"x-content-type-options": "nosniff", "cache-control": "no-store", "content-type": "application/json"}


@pytest.fixture(scope="module")
def side(shared_footfall: Footfall) -> Process:
    return shared_footfall.start("command-side", BODY_TIMEOUT_MS=str(int(BODY_TIMEOUT * 1000)))


@pytest.fixture
def client(side: Process) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=side.url, timeout=PATIENCE) as found:
        yield found


def failed(error: str) -> dict[str, Any]:
    return {"success": False, "event": None, "errors": None, "error": error}


def invalid(*errors: str) -> dict[str, Any]:
    return {"success": False, "event": None, "errors": list(errors), "error": None}


USER_ID = "Field `userId` must be a string of 1 to 256 characters without control characters."
EVENT_TYPE = "Field `eventType` must be one of LOGIN, LOGOUT, PRODUCT_VIEW."
PAYLOAD = "Field `payload` must be a JSON object."
LARGE = "The body is larger than 64 KiB."
MEDIA_TYPE = "Content-Type must be application/json."
CHARSET = "The charset must be UTF-8."
ENCODED = "Content-Encoding is not supported; send the body as it is."

ACCEPTED: list[dict[str, Any]] = [
    {"userId": "user-1", "eventType": "LOGIN"},
    {"userId": "user-1", "eventType": "LOGOUT", "payload": {}},
    {"userId": "日本-😀", "eventType": "PRODUCT_VIEW", "payload": {"näme": ['\\"\n\u2028', None, 1.5, 2**64 - 1]}},
    {"userId": "x" * 256, "eventType": "LOGIN", "payload": {"x": "y" * (16 * 1024 - 8)}},
    {"userId": "u", "eventType": "LOGIN", "payload": json.loads('{"a":' * 16 + "0.0" + "}" * 16)},
]

REFUSED: list[tuple[str, bytes, dict[str, Any]]] = [
    ("empty", b"", invalid("The JSON is not valid: it was truncated.")),
    ("broken", b'{"userId":', invalid("The JSON is not valid: it was truncated.")),
    ("a list", b"[]", invalid("The JSON must be an object.")),
    ("deep", b"[" * 60_000, invalid("The JSON is nested deeper than 16 levels.")),
    ("deep and whole", b"[" * 30_000 + b"]" * 30_000, invalid("The JSON is nested deeper than 16 levels.")),
    ("not UTF-8", b'{"userId":"\xff","eventType":"LOGIN"}', invalid("The JSON is not valid UTF-8.")),
    ("number as text", b'{"userId":5,"eventType":"LOGIN"}', invalid(USER_ID)),
    ("unknown type", b'{"userId":"u","eventType":"DELETE"}', invalid(EVENT_TYPE)),
    ("null payload", b'{"userId":"u","eventType":"LOGIN","payload":null}', invalid(PAYLOAD)),
    ("text payload", b'{"userId":"u","eventType":"LOGIN","payload":"{}"}', invalid(PAYLOAD)),
    (
        "an id of the client's own",
        b'{"userId":"u","eventType":"LOGIN","eventId":"x"}',
        invalid("Unknown field `eventId`; the fields are userId, eventType, payload."),
    ),
    (
        "nothing in it",
        b"{}",
        invalid(
            "Field `userId` is required: it must be a string of 1 to 256 characters without control characters.",
            "Field `eventType` is required: it must be one of LOGIN, LOGOUT, PRODUCT_VIEW.",
        ),
    ),
    (
        "everything wrong",
        b'{"userId":"\\n","eventType":"x","payload":[],"z":"\\u0000"}',
        invalid(
            USER_ID,
            EVENT_TYPE,
            PAYLOAD,
            "Unknown field `z`; the fields are userId, eventType, payload.",
            "A string contains the character U+0000, which cannot be stored.",
        ),
    ),
    (
        "payload over 16 KiB",
        json.dumps({**COMMAND, "payload": {"x": "y" * 16 * 1024}}).encode(),
        invalid("Field `payload` is larger than 16 KiB encoded."),
    ),
]


@pytest.mark.parametrize("command", ACCEPTED, ids=range(len(ACCEPTED)))
def test_a_valid_command_becomes_an_event_in_kafka(
    client: httpx.Client, shared_footfall: Footfall, command: dict[str, Any]
) -> None:
    before = datetime.now(UTC)
    answer = client.post(GENERATE, json=command, headers={"x-request-id": "trace-42"})
    assert answer.status_code == 201
    assert SECURE.items() <= dict(answer.headers).items()
    assert answer.headers["x-request-id"] == "trace-42"
    body = answer.json()
    event = body["event"]
    assert body == {"success": True, "event": event, "errors": None, "error": None}
    assert list(event) == ["eventId", "userId", "eventType", "timestamp", "payload"]
    assert {**event, "eventId": "", "timestamp": ""} == {"payload": {}, **command, "eventId": "", "timestamp": ""}
    assert UUID(event["eventId"]).version == 7
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", event["timestamp"])
    assert before <= datetime.fromisoformat(event["timestamp"]) <= datetime.now(UTC) + timedelta(seconds=1)

    [record] = [
        record
        for record in records_of(shared_footfall.servers.kafka, shared_footfall.topic)
        if dict(record.headers)["event-id"] == event["eventId"].encode()
    ]
    assert answer.headers["location"] == f"/events/{event['eventId']}"
    assert answer.headers["footfall-position"] == f"{record.partition}-{record.offset}"
    assert record.key == command["userId"].encode()
    assert json.loads(record.value) == event
    assert record.value in answer.content  # the very bytes
    assert record.headers == (
        ("event-type", command["eventType"].encode()),
        ("event-id", event["eventId"].encode()),
        ("request-id", b"trace-42"),
    )


@pytest.mark.parametrize(("body", "expected"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_an_invalid_body_is_400_with_every_problem(client: httpx.Client, body: bytes, expected: dict[str, Any]) -> None:
    answer = client.post(GENERATE, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()) == (400, expected)
    assert SECURE.items() <= dict(answer.headers).items()


@pytest.mark.parametrize(
    ("method", "path", "status", "error", "allow"),
    [
        ("GET", GENERATE, 405, "Method GET is not allowed here; use POST.", "POST"),
        ("PUT", GENERATE, 405, "Method PUT is not allowed here; use POST.", "POST"),
        ("OPTIONS", GENERATE, 405, "Method OPTIONS is not allowed here; use POST.", "POST"),
        ("PROPFIND", GENERATE, 405, "Method PROPFIND is not allowed here; use POST.", "POST"),
        ("POST", "/health", 405, "Method not allowed", "GET, HEAD"),
        ("POST", "/metrics", 405, "Method not allowed", "GET, HEAD"),
        ("GET", "/", 404, "Not found", None),
        ("POST", "/events", 404, "Not found", None),
        ("POST", "/events/generate/more", 404, "Not found", None),
        ("POST", "/EVENTS/GENERATE", 404, "Not found", None),
        ("GET", "/events/processed", 404, "Not found", None),
        ("GET", "/%00", 404, "Not found", None),
    ],
)
def test_a_wrong_path_or_method_is_answered_in_the_envelope(
    client: httpx.Client, method: str, path: str, status: int, error: str, allow: str | None
) -> None:
    answer = client.request(method, path, headers={"x-request-id": "r"})
    assert (answer.status_code, answer.json(), answer.headers.get("allow")) == (status, failed(error), allow)
    assert SECURE.items() <= dict(answer.headers).items()
    assert answer.headers["x-request-id"] == "r"


def test_head_is_405_without_a_body(client: httpx.Client) -> None:
    answer = client.head(GENERATE)
    assert (answer.status_code, answer.content, answer.headers["allow"]) == (405, b"", "POST")


@pytest.mark.parametrize(
    ("headers", "status", "error"),
    [
        ({"content-type": "application/json"}, 201, None),
        ({"content-type": "Application/JSON; charset=utf-8"}, 201, None),
        ({"content-type": 'application/json;charset="UTF-8"'}, 201, None),
        ({}, 201, None),
        ({"content-type": "application/json", "content-encoding": "identity"}, 201, None),
        ({"content-type": "text/plain"}, 415, MEDIA_TYPE),
        ({"content-type": "application/x-www-form-urlencoded"}, 415, MEDIA_TYPE),
        ({"content-type": "application/json-patch+json"}, 415, MEDIA_TYPE),
        ({"content-type": "application/jsonx"}, 415, MEDIA_TYPE),
        ({"content-type": ""}, 415, MEDIA_TYPE),
        ({"content-type": "application/json; charset=utf-16"}, 415, CHARSET),
        ({"content-type": "application/json; charset=latin1"}, 415, CHARSET),
        ({"content-encoding": "gzip"}, 415, ENCODED),
        ({"content-encoding": "br, gzip"}, 415, ENCODED),
    ],
)
def test_media_types(client: httpx.Client, headers: dict[str, str], status: int, error: str | None) -> None:
    answer = client.post(GENERATE, content=json.dumps(COMMAND).encode(), headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"] == error
    assert list(answer.json()) == ["success", "event", "errors", "error"]


def padded(size: int) -> bytes:
    """A valid command that is exactly so many bytes long."""
    text = json.dumps(COMMAND).encode()
    return text[:-1] + b" " * (size - len(text)) + text[-1:]


def test_a_body_of_64_kib_is_taken(client: httpx.Client) -> None:
    assert client.post(GENERATE, content=padded(65_536)).status_code == 201
    assert client.post(GENERATE, content=iter([padded(65_536)])).status_code == 201


def conversation(url: str, sent: bytes, within: float = PATIENCE) -> bytes:
    """Sends raw bytes and reads until the server closes the connection, which it must."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname or "", address.port or 0), within) as connection:
        connection.settimeout(within)
        connection.sendall(sent)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
        return received


def raw_post(*headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"POST {GENERATE} HTTP/1.1", "Host: here", *headers, "", ""]).encode() + body


@pytest.mark.parametrize(
    "sent",
    [
        raw_post("Content-Length: 65537"),  # refused before the body is sent
        raw_post("Content-Length: 99999999999999"),
        raw_post("Transfer-Encoding: chunked", body=b"10001\r\n" + padded(65_537) + b"\r\n0\r\n\r\n"),
        raw_post("Transfer-Encoding: chunked", body=b"10001\r\n" + padded(65_537) + b"\r\n"),  # and no end in sight
    ],
    ids=["declared", "declared huge", "chunked", "chunked without end"],
)
def test_a_larger_body_is_413_and_the_connection_is_closed(side: Process, sent: bytes) -> None:
    head, _, body = conversation(side.url, sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nconnection: close" in head.lower()
    assert json.loads(body) == failed(LARGE)


@pytest.mark.parametrize(
    "sent",
    [raw_post("Content-Length: 60", body=b'{"userId":'), raw_post("Transfer-Encoding: chunked", body=b"5\r\n{")],
    ids=["declared", "chunked"],
)
def test_a_body_that_does_not_arrive_is_408_and_the_connection_is_closed(side: Process, sent: bytes) -> None:
    began = time.monotonic()
    head, _, body = conversation(side.url, sent).partition(b"\r\n\r\n")
    assert time.monotonic() - began >= BODY_TIMEOUT - TICK
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body) == failed("The request body took too long to arrive.")


def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(side: Process, client: httpx.Client) -> None:
    address = urlsplit(side.url)
    for _ in range(20):
        with socket.create_connection((address.hostname or "", address.port or 0), PATIENCE) as connection:
            connection.sendall(raw_post("Content-Length: 60", body=b'{"userId":'))
    assert client.post(GENERATE, json=COMMAND).status_code == 201
    assert "unforeseen_error" not in side.log_text()


@pytest.mark.parametrize("request_id", ["r", "x" * 128, "a-b_c.d:e/f~!", "01980000-0000-7000-8000-000000000001"])
def test_a_good_request_id_is_echoed(client: httpx.Client, request_id: str) -> None:
    answer = client.post(GENERATE, json=COMMAND, headers={"x-request-id": request_id})
    assert answer.headers["x-request-id"] == request_id


@pytest.mark.parametrize("request_id", [b"", b"x" * 129, b"a b", b"\xc3\xa9", b"a\tb", None])
def test_a_bad_or_missing_request_id_is_replaced(
    client: httpx.Client, shared_footfall: Footfall, request_id: bytes | None
) -> None:
    answer = client.post(GENERATE, json=COMMAND, headers=[] if request_id is None else [(b"x-request-id", request_id)])
    given = answer.headers["x-request-id"]
    assert UUID(given).version == 7
    records = records_of(shared_footfall.servers.kafka, shared_footfall.topic)
    assert given.encode() in [dict(record.headers)["request-id"] for record in records]


def test_many_at_once_are_each_in_kafka_exactly_once(client: httpx.Client, shared_footfall: Footfall) -> None:
    def post(number: int) -> str:
        answer = client.post(GENERATE, json={**COMMAND, "userId": f"user-{number % 7}", "payload": {"n": number}})
        assert answer.status_code == 201
        return str(answer.json()["event"]["eventId"])

    with ThreadPoolExecutor(16) as pool:
        accepted = list(pool.map(post, range(400)))
    records = records_of(shared_footfall.servers.kafka, shared_footfall.topic)
    stored = [dict(record.headers)["event-id"].decode() for record in records]
    assert len(set(accepted)) == 400
    assert set(accepted) <= set(stored)
    assert len(stored) == len(set(stored))


def metric(client: httpx.Client, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_metrics_count_what_happened(client: httpx.Client) -> None:
    names = (
        "messages_published_total",
        'commands_rejected_total{status="400"}',
        'commands_rejected_total{status="415"}',
        'http_requests_total{side="command-side",status="2xx"}',
        'http_requests_total{side="command-side",status="4xx"}',
    )
    before = [metric(client, name) for name in names]
    for _ in range(5):
        client.post(GENERATE, json=COMMAND)
    for _ in range(3):
        client.post(GENERATE, json={})
    client.post(GENERATE, json=COMMAND, headers={"content-type": "text/plain"})
    client.get("/nowhere")
    # Reading a metric is a 2xx of its own: the fourth is read three requests after the first round read it.
    grown = [metric(client, name) - old for name, old in zip(names, before, strict=True)]
    assert grown == [5, 3, 1, 5 + len(names), 5]


def test_health_tells_of_kafka(client: httpx.Client) -> None:
    states = {"status": "ok", "side": "command-side", "dependencies": {"kafka": {"ok": True, "detail": ""}}}
    for path in ("/health", "/health/ready"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()) == (200, states)
    assert client.get("/health/live").json() == {"status": "ok", "side": "command-side"}
    assert client.head("/health").content == b""


@pytest.mark.parametrize("codec", ["gzip", "zstd", "lz4", "snappy", "none"])
async def test_every_codec_is_read_back(codec: str, compressed_topic: tuple[str, str]) -> None:
    bootstrap, topic = compressed_topic
    side = CommandSide(
        CommandSettings(kafka_bootstrap_servers=bootstrap, kafka_topic=topic, kafka_compression=codec),  # type: ignore[arg-type]
        SHIPPED,
    )
    app = web_app("command-side", OPEN, side)
    async with side.lifespan(None), asgi_client(app) as asgi:  # type: ignore[arg-type]
        payloads = [{"codec": codec, "x": "y" * length} for length in (2_000, 300, 1)]
        answers = [await asgi.post(GENERATE, json={**COMMAND, "payload": payload}) for payload in payloads]
    assert [answer.status_code for answer in answers] == [201] * 3
    found = [json.loads(record.value) for record in await read_topic(bootstrap, topic)]
    assert all(answer.json()["event"] in found for answer in answers)


@pytest.fixture(scope="module")
def compressed_topic(real_servers: Servers, new_topic: Callable[..., str]) -> tuple[str, str]:
    return real_servers.kafka, new_topic(1)


def asgi_client(app: Any) -> httpx.AsyncClient:
    """Calls the application in this process, as uvicorn would."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here")


async def test_the_unforeseen_is_500_and_tells_nothing(
    compressed_topic: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise LookupError("the secret cause")

    monkeypatch.setattr(Commands, "submit", broken)
    settings = CommandSettings(kafka_bootstrap_servers=compressed_topic[0], kafka_topic=compressed_topic[1])
    async with asgi_client(web_app("command-side", OPEN, CommandSide(settings, SHIPPED))) as asgi:
        answer = await asgi.post(GENERATE, json=COMMAND, headers={"x-request-id": "r"})
    assert (answer.status_code, answer.json()) == (500, failed("Internal server error"))
    assert SECURE.items() <= dict(answer.headers).items()
    assert answer.headers["x-request-id"] == "r"


async def test_a_position_that_kafka_forgot_is_left_out(
    compressed_topic: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = to_record(create_user_event(ActivityCommand("user-1", "LOGIN"), "default"), "r")

    def written_by_an_earlier_try(*_: object) -> Submitted:
        return Submitted(record, SOMEWHERE)

    monkeypatch.setattr(Commands, "submit", written_by_an_earlier_try)
    settings = CommandSettings(kafka_bootstrap_servers=compressed_topic[0], kafka_topic=compressed_topic[1])
    async with asgi_client(web_app("command-side", OPEN, CommandSide(settings, SHIPPED))) as asgi:
        answer = await asgi.post(GENERATE, json=COMMAND)
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/events/{answer.json()['event']['eventId']}"
    assert "footfall-position" not in answer.headers


def test_without_a_broker_it_does_not_start_and_says_why_in_a_line(footfall: Footfall) -> None:
    away = {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}", "STARTUP_TIMEOUT_MS": "0"}
    side = footfall.start("command-side", ready=False, **away)
    assert side.popen.wait(PATIENCE) == 1
    assert "Traceback" not in side.log_text()
    assert "Kafka" in side.log_text()
    assert len(side.log_text().splitlines()) <= 3


def test_without_its_topic_it_does_not_start_and_says_what_to_do(footfall: Footfall) -> None:
    side = footfall.start("command-side", ready=False, KAFKA_TOPIC="nowhere")
    assert side.popen.wait(PATIENCE) == 1
    assert "footfall topics create" in side.log_text()
    assert len(side.log_text().splitlines()) <= 3
