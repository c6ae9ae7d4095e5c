"""The nginx configuration that is shipped, in a real nginx: what it says itself is what the sides would say."""

import json
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from contracts.erasure import erasure_of
from tests.conftest import Footfall
from tests.drivers.nginx import nginx_before
from tests.drivers.tls import client
from tests.hostile import connected, send
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import Process
from tests.producing import read_topic, start_projector
from web.protocol.secure_headers import POLICY, SECURE_HEADERS

JSON = {"content-type": "application/json"}
COMMAND = b'{"userId":"user-1","eventType":"LOGIN"}'
ENVELOPE = {"success", "event", "errors", "error"}
OWN_ANSWERS = {  # what is sent, and the status that it must have
    "a percent sign that begins nothing": (b"GET /users/100%/activity HTTP/1.1\r\nHost: here\r\n\r\n", 400),
    "an escaped NUL": (b"GET /users/%00/activity HTTP/1.1\r\nHost: here\r\n\r\n", 400),
    "a path above the root": (b"GET /../x HTTP/1.1\r\nHost: here\r\n\r\n", 400),
    "a long target": (b"GET /%b HTTP/1.1\r\nHost: here\r\n\r\n" % (b"x" * 9_000), 414),
    "a large field": (b"GET / HTTP/1.1\r\nHost: here\r\nX-Large: %b\r\n\r\n" % (b"x" * 20_000), 431),
    "no Host": (b"GET /health/live HTTP/1.1\r\n\r\n", 400),
    "no HTTP": (b"nonsense\r\n\r\n", 400),
    "another version": (b"GET / HTTP/3.0\r\nHost: here\r\n\r\n", 505),
    "another coding": (b"POST /events/generate HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: here\r\n\r\n", 405),
    "a body of 2 MiB": (b"POST /events/generate HTTP/1.1\r\nHost: here\r\nContent-Length: 2097152\r\n\r\n", 413),
    "metrics": (b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n", 404),
    "its own location": (b"GET /footfall/refusal HTTP/1.1\r\nHost: here\r\n\r\n", 404),
}


@pytest.fixture(scope="module")
def front(shared_footfall: Footfall) -> Process:
    start_projector(shared_footfall)
    return shared_footfall.start("front")


@pytest.fixture(scope="module")
def nginx(front: Process, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an nginx before `front`, which is both sides."""
    with nginx_before(front.url, tmp_path_factory.mktemp("nginx")) as url:
        yield url


def told(url: str, sent: bytes) -> tuple[int, dict[str, list[str]], bytes]:
    """Status, headers and body of the one answer to `sent`."""
    with connected(url) as connection:
        send(connection, sent)
        received = b""
        while b"\r\n\r\n" not in received or len(received.split(b"\r\n\r\n", 1)[1]) < length_of(received):
            chunk = connection.recv(65_536)
            assert chunk, received
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        headers.setdefault(name.lower(), []).append(value)
    return int(status.split(" ")[1]), headers, body


def values_of(footfall: Footfall) -> list[bytes | None]:
    return [record.value for record in read_topic(footfall)]


def length_of(received: bytes) -> int:
    found = re.search(rb"\r\ncontent-length: (\d+)", received, re.IGNORECASE)
    return int(found[1]) if found else 0


def assert_is_ours(headers: dict[str, list[str]], *, is_page: bool = False) -> None:
    for secure, value in SECURE_HEADERS:
        if secure != POLICY or not is_page:
            assert headers[secure.decode()] == [value.decode()], headers
    for name in ("date", "x-request-id", "content-type"):
        assert len(headers[name]) == 1, headers


@pytest.mark.parametrize("name", OWN_ANSWERS)
def test_what_nginx_refuses_has_the_envelope_and_our_headers(nginx: str, name: str) -> None:
    sent, expected = OWN_ANSWERS[name]
    status, headers, body = told(nginx, sent)
    assert status == expected, body
    assert json.loads(body).keys() == ENVELOPE
    assert json.loads(body)["error"] != "Internal server error"
    assert_is_ours(headers)
    assert headers["content-type"] == ["application/json"]


def test_what_comes_through_has_each_header_once(nginx: str) -> None:
    for path in ("/health/front", "/health/live", "/health/live/", "/events/processed", "/nowhere", "/docs"):
        _, headers, _ = told(nginx, f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        assert_is_ours(headers, is_page=path == "/docs")


def test_http_1_0_without_a_host_is_answered_as_by_a_side(front: Process, nginx: str) -> None:
    post = b"POST /events/generate HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
        COMMAND
    )
    for url in (front.url, nginx):
        assert told(url, post + COMMAND)[0] == 201
        assert told(url, b"GET /health/live HTTP/1.0\r\n\r\n")[0] == 200
        status, headers, _ = told(url, b"GET /events/processed HTTP/1.0\r\n\r\n")
        assert (status, headers.get("transfer-encoding")) == (200, None)


def test_a_command_of_who_closes_its_sending_half_is_answered(nginx: str) -> None:
    head = b"POST %b HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    for path, body in ((b"/events/generate", COMMAND), (b"/events/generate/batch", b"[%b]" % COMMAND)):
        with connected(nginx) as connection:
            send(connection, head % (path, len(body)) + body)
            connection.shutdown(socket.SHUT_WR)
            told = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert told.startswith(b"HTTP/1.1 201 "), told


def test_a_user_id_that_is_escaped_reaches_the_query_side_as_it_was_sent(nginx: str) -> None:
    for user in ("a/b", "100%", ".."):
        answer: Any = httpx.post(
            f"{nginx}/events/generate", json={"userId": user, "eventType": "LOGIN"}, timeout=PATIENCE
        )
        position = answer.headers["footfall-position"]
        found = httpx.get(
            f"{nginx}/users/activity", params={"userId": user, "position": position}, headers={"prefer": "wait=30"}
        )
        assert (found.status_code, found.json().get("userId")) == (200, user), found.text
    assert httpx.get(f"{nginx}/users/a%2Fb/activity").json()["userId"] == "a/b"


def test_an_erasure_reaches_the_command_side_with_the_user_as_it_was_sent(
    nginx: str, shared_footfall: Footfall
) -> None:
    answer = httpx.delete(f"{nginx}/users/a%2Fb")
    assert answer.status_code == 202, answer.text
    assert (answer.status_code, len(answer.json()["erasure"]["positions"])) == (202, 6)
    [user] = {erasure.user_id for erasure in map(erasure_of, values_of(shared_footfall)) if erasure is not None}
    assert user == "a/b"


def test_tls_ends_at_nginx_which_tells_browsers_to_stay_there(front: Process, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    (tmp_path / "fullchain.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    port = free_port()
    with nginx_before(front.url, tmp_path, (port, tmp_path)) as plain, client(authority) as https:
        url = f"https://localhost:{port}"
        for path, status in (("/events/processed", 200), ("/health/front", 200), ("/metrics", 404), ("/nowhere", 404)):
            answer = https.get(f"{url}{path}")
            found = [value for name, value in answer.headers.multi_items() if name == "strict-transport-security"]
            assert (answer.status_code, found) == (status, ["max-age=31536000"]), path
            assert "strict-transport-security" not in httpx.get(f"{plain}{path}").headers, path
        assert https.post(f"{url}/events/generate", content=COMMAND, headers=JSON).status_code == 201
        with connected(f"http://127.0.0.1:{port}") as connection:
            send(connection, b"GET /events/processed HTTP/1.1\r\nHost: here\r\n\r\n")
            assert connection.recv(65_536).startswith(b"HTTP/1.1 400 ")
        context = ssl.create_default_context()
        authority.configure_trust(context)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE+AES+SHA256:!AESGCM")
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as weak, pytest.raises(ssl.SSLError):
            context.wrap_socket(weak, server_hostname="localhost")


def test_a_side_that_is_away_is_503_in_the_envelope(front: Process, nginx: str) -> None:
    """The last one: it ends the side."""
    front.kill()
    for sent in (b"GET /events/processed HTTP/1.1\r\nHost: here\r\n\r\n", b"POST /events/generate HTTP/1.0\r\n\r\n"):
        status, headers, body = told(nginx, sent)
        assert (status, headers["retry-after"]) == (503, ["2"])
        assert json.loads(body)["error"] == "Service is not available, try again"
        assert_is_ours(headers)
