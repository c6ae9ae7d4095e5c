"""What standards let a client say, and what clients in the field do say: each is understood, or refused in words."""

import csv
import email.utils
import io
import json
import re
import socket
import time
from typing import Any

import httpx
import pytest

from tests.conftest import Footfall
from tests.framing import Heard
from tests.hostile import connected, send
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import start_projector

GENERATE, PROCESSED = "/events/generate", "/events/processed"
COMMAND = {"userId": "user-1", "eventType": "LOGIN"}
LINE_ENDS = "\x85\u2028\u2029"
USERS = ("=x", "'=x", "+49 30 1234", "@handle", "''", "plain", "a\u2028\u2029b", "..", ".", "a/b")
ENDS = (
    "0001-01-01T00:00:00Z",  # Go's zero, and .NET's
    "0001-01-01T00:00:00+14:00",
    "0001-01-01",
    "9999-12-31T23:59:59.9999999Z",  # .NET's last
    "9999-12-31T23:59:59.999999999Z",
    "9999-12-31T23:59:59-14:00",
    "9999-12-31",
    "2000-01-31T12:00:00.1234567890123Z",
)


@pytest.fixture(scope="module")
def front(shared_footfall: Footfall) -> Process:
    """Both sides, and an event of each user that is in the read model."""
    start_projector(shared_footfall)
    front = shared_footfall.start("front")
    batch = [{**COMMAND, "userId": user, "payload": {"text": LINE_ENDS}} for user in USERS]
    answer = httpx.post(f"{front.url}{GENERATE}/batch", json=batch, timeout=PATIENCE)
    assert answer.json()["accepted"] == len(USERS)
    wait_until(lambda: len(httpx.get(front.url + PROCESSED).json()) == len(USERS), 60, "the events")
    return front


@pytest.fixture
def client(front: Process) -> Any:
    with httpx.Client(base_url=front.url, timeout=PATIENCE) as found:
        yield found


def spoken(front: Process, request: bytes, *, half_closed: bool = False) -> bytes:
    """Everything that is said on one connection until it is closed. `half_closed`: the client says it sends no more."""
    with connected(front.url) as connection:
        send(connection, request)
        if half_closed:
            connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def users_of(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return sorted(event["userId"] for event in answer.json())


# --- times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ENDS)
@pytest.mark.parametrize("path", [PROCESSED, "/users/plain/events", "/products/top", "/activity/hourly"])
@pytest.mark.parametrize("name", ["from", "to"])
def test_a_time_at_either_end_of_the_calendar_is_a_time(
    client: httpx.Client, path: str, name: str, moment: str
) -> None:
    answer = client.get(path, params={name: moment})
    spans = path in ("/products/top", "/activity/hourly")
    assert answer.status_code in ((200, 400) if spans else (200,)), answer.text
    if answer.status_code == 400:
        assert re.search(r"must be earlier|days apart", answer.json()["errors"][0])
    elif not spans:
        assert bool(answer.json()) == ((name == "from") != moment.startswith("9999"))


@pytest.mark.parametrize("moment", ENDS)
def test_a_feed_since_either_end_of_the_calendar(client: httpx.Client, moment: str) -> None:
    found = users_of(client.get("/events/feed", params={"since": moment, "limit": 1000}))
    assert found == ([] if moment.startswith("9999") else sorted(USERS))
    with client.stream("GET", "/events/stream", params={"since": moment}) as answer:
        assert answer.status_code == 200
        assert not found or any('"userId":' in line for line in answer.iter_lines())


@pytest.mark.parametrize("moment", ["0000-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "2026-02-30", "now-1h", "1e9"])
def test_what_is_no_time_is_refused_in_words(client: httpx.Client, moment: str) -> None:
    for path, name in ((PROCESSED, "from"), ("/events/feed", "since"), ("/activity/hourly", "to")):
        answer = client.get(path, params={name: moment})
        assert (answer.status_code, answer.json()["success"]) == (400, False)
        assert answer.json()["errors"][0].startswith(f"Parameter `{name}` must be")


# --- connections -----------------------------------------------------------------------------------------------------


def test_http_1_0_gets_no_chunks_and_the_end_of_the_connection_is_the_end(front: Process) -> None:
    for accept in ("application/json", "application/x-ndjson", "text/csv"):
        told = spoken(front, f"GET {PROCESSED} HTTP/1.0\r\nAccept: {accept}\r\n\r\n".encode())
        head, _, body = told.partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head.lower()
        assert b"connection: close" in head.lower()
        assert body == httpx.get(front.url + PROCESSED, headers={"Accept": accept}).content
    command = json.dumps(COMMAND).encode()
    told = spoken(front, b"POST /events/generate HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(command), command))
    assert told.startswith(b"HTTP/1.1 201 ")


@pytest.mark.parametrize(
    "path", [PROCESSED, f"{PROCESSED}?limit=1", "/users/plain/activity", "/events/feed", "/health/live", "/docs"]
)
def test_who_closes_its_sending_half_gets_its_answer(front: Process, client: httpx.Client, path: str) -> None:
    told = spoken(front, f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode(), half_closed=True)
    head, _, body = told.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), told
    assert body.endswith((b"0\r\n\r\n", client.get(path).content[-10:]))


def test_a_stream_begins_for_who_closes_its_sending_half(front: Process) -> None:
    told = b""
    with connected(front.url) as connection:
        send(connection, b"GET /events/stream?since=beginning HTTP/1.1\r\nHost: here\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        while told.count(b"\nevent: LOGIN") < len(USERS):
            told += (received := connection.recv(65_536))
            assert received, told


def test_every_answer_has_one_date(front: Process, client: httpx.Client) -> None:
    answers = [
        client.post(GENERATE, json=COMMAND),
        client.post(GENERATE, json={}),
        client.post(f"{GENERATE}?", json=COMMAND),
        client.get(PROCESSED),
        client.get(PROCESSED, headers={"Accept": "text/csv"}),
        client.head(PROCESSED),
        client.get("/events/feed"),
        client.get("/health/live"),
        client.get("/nowhere"),
        client.options("/"),
    ]
    heads = [answer.headers.get_list("date") for answer in answers]
    refused = spoken(front, b"nonsense\r\n\r\n")
    heads.append([line[6:].decode() for line in refused.split(b"\r\n") if line.startswith(b"date: ")])
    for dates in heads:
        assert len(dates) == 1
        assert abs(email.utils.parsedate_to_datetime(dates[0]).timestamp() - time.time()) < 60


def test_a_load_balancers_first_question_is_answered(front: Process) -> None:
    """HAProxy asks so unless it is told otherwise."""
    assert spoken(front, b"OPTIONS / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 204 ")
    with connected(front.url) as connection:
        send(connection, b"OPTIONS * HTTP/1.1\r\nHost: here\r\n\r\nGET /health/live HTTP/1.1\r\nHost: here\r\n\r\n")
        heard = Heard(connection)
        assert [heard.next(), heard.next()] == ["204", "200"]


@pytest.mark.parametrize("path", ["/health/", "/health/live/", "/metrics/", "/docs/", "/events/processed/"])
def test_a_slash_at_the_end_is_no_other_resource(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 200


def test_a_command_to_the_wrong_path_is_not_told_to_use_get(client: httpx.Client) -> None:
    for path in ("/events/Generate", "/events/generated", "/events"):
        answer = client.post(path, json=COMMAND)
        assert answer.status_code == 404
        assert "allow" not in answer.headers
    assert "/events/generate" in client.post("/events/Generate", json=COMMAND).json()["error"]
    known = client.post("/events/01980000-0000-7000-8000-000000000000", json=COMMAND)
    assert (known.status_code, known.headers["allow"]) == (405, "GET, HEAD")


# --- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("application/json; charset=utf-8;", 201),
        ("application/json;charset=utf-8;odata=verbose", 201),
        ('application/json ; charset="UTF-8" ; profile="a;charset=latin1"', 201),
        ("application/json;;", 201),
        ("Application/JSON", 201),
        ("application/json; charset=utf-8; charset=latin1", 415),
        ("application/json; charset=utf-16", 415),
        ("application/json; charset", 415),
        ('application/json; charset="utf-8', 415),
    ],
)
def test_parameters_of_a_content_type_are_read_as_the_standard_has_them(
    client: httpx.Client, value: str, status: int
) -> None:
    for path in (GENERATE, f"{GENERATE}?"):
        answer = client.post(path, content=json.dumps(COMMAND), headers={"Content-Type": value})
        assert answer.status_code == status, answer.text


@pytest.mark.parametrize(("quoted", "bare"), [('"k-1"', "k-1"), (r'"a\"b"', 'a"b'), (r'"a\\b"', r"a\b")])
def test_an_idempotency_key_in_quotes_is_the_key_without_them(client: httpx.Client, quoted: str, bare: str) -> None:
    answers = [
        client.post(path, json=COMMAND, headers={"Idempotency-Key": key})
        for key in (quoted, bare)
        for path in (GENERATE, f"{GENERATE}?")
    ]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["event"]["eventId"] for answer in answers}) == 1


def test_a_wait_may_be_a_fraction_of_a_second(client: httpx.Client) -> None:
    began = time.monotonic()
    answer = client.get(PROCESSED, params={"position": "0-999999999"}, headers={"Prefer": "wait=0.25"})
    assert answer.status_code == 503
    assert time.monotonic() - began >= 0.25
    assert "retry-after" in answer.headers


def test_an_empty_accept_is_none(client: httpx.Client) -> None:
    for path in (PROCESSED, "/products/top", f"{PROCESSED}?limit=1"):
        answer = client.get(path, headers={"Accept": ""})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")


# --- users and lines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", USERS)
def test_every_user_id_can_be_asked_for(client: httpx.Client, user: str) -> None:
    activity = client.get("/users/activity", params={"userId": user})
    assert (activity.status_code, activity.json()["userId"]) == (200, user)
    assert len(client.get("/users/sessions", params={"userId": user}).json()) == 1
    assert users_of(client.get(PROCESSED, params={"userId": user})) == [user]


def test_a_link_of_a_user_that_no_path_can_carry_can_be_followed(client: httpx.Client) -> None:
    for _ in range(2):
        client.post(GENERATE, json={**COMMAND, "userId": ".."}).raise_for_status()
    wait_until(lambda: len(client.get("/users/sessions", params={"userId": ".."}).json()) == 3, 60, "the sessions")
    for path in ("/users/sessions", PROCESSED):
        answer, found = client.get(path, params={"userId": "..", "limit": "1"}), 0
        while True:
            found += len(answer.json())
            if "next" not in answer.links:
                break
            answer = client.get(answer.links["next"]["url"])
        assert found == 3


def test_the_query_form_needs_its_user_and_the_path_form_takes_none(client: httpx.Client) -> None:
    assert client.get("/users/activity").json()["errors"] == ["Parameter `userId` is required here."]
    assert client.get("/users/plain/activity", params={"userId": "x"}).status_code == 400
    only_erased = client.get("/users/elsewhere")
    assert (only_erased.status_code, only_erased.headers["allow"]) == (405, "DELETE")


def test_a_line_is_a_line_for_readers_that_end_it_at_unicodes_ends_too(client: httpx.Client) -> None:
    for parameters in ({}, {"limit": "1000"}):
        answer = client.get(PROCESSED, params=parameters, headers={"Accept": "application/x-ndjson"})
        events = [json.loads(line) for line in answer.iter_lines()]
        assert {event["userId"] for event in events} >= set(USERS)
        assert {event["payload"]["text"] for event in events if "text" in event["payload"]} == {LINE_ENDS}
    with client.stream("GET", "/events/stream", params={"since": "beginning"}) as stream:
        data = (line.removeprefix("data: ") for line in stream.iter_lines() if line.startswith("data: {"))
        users = {json.loads(next(data)).get("userId") for _ in range(1 + len(USERS))}
    assert users >= set(USERS)


# --- files -----------------------------------------------------------------------------------------------------------


def cells(text: str) -> list[str]:
    return [row["userId"] for row in csv.DictReader(io.StringIO(text, newline=""))]


def test_csv_is_safe_for_spreadsheets_and_the_text_can_be_had_again(client: httpx.Client) -> None:
    safe = cells(client.get(PROCESSED, params={"format": "csv"}).text)
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in safe)
    assert len(set(safe)) == len({cell.removeprefix("'") for cell in safe}) == len(USERS) + 1
    assert {cell.removeprefix("'") for cell in safe} == {*USERS, "user-1"}
    raw = cells(client.get(PROCESSED, params={"format": "csv", "csv": "raw"}).text)
    assert set(raw) == {*USERS, "user-1"}
    paged = client.get(PROCESSED, params={"format": "csv", "csv": "raw", "limit": "3"})
    assert "format=csv&csv=raw" in paged.links["next"]["url"]
    assert client.get(paged.links["next"]["url"]).headers["content-type"].startswith("text/csv")


@pytest.mark.parametrize(
    ("form", "name"), [("csv", "csv"), ("ndjson", "ndjson"), ("arrow", "arrows"), ("parquet", "parquet")]
)
def test_an_export_has_a_file_name_and_says_that_it_has_no_ranges(client: httpx.Client, form: str, name: str) -> None:
    for method in ("GET", "HEAD"):
        answer = client.request(method, PROCESSED, params={"format": form}, headers={"Range": "bytes=0-9"})
        assert answer.status_code == 200
        assert answer.headers["content-disposition"] == f'attachment; filename="events.{name}"'
        assert answer.headers["accept-ranges"] == "none"


def test_json_is_shown_and_not_saved(client: httpx.Client) -> None:
    assert "content-disposition" not in client.get(PROCESSED).headers
    assert client.get(PROCESSED, params={"format": "json"}).json()
    assert client.get(PROCESSED, params={"format": "xml"}).status_code == 400
