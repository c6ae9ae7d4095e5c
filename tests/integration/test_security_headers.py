"""Every answer of every process has the headers that keep browsers from misusing it, whoever answers, and each once."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.drivers.applications import PROCESSES, application_of, noting, paths_of
from tests.drivers.raw_http import Client, port_of, served
from tests.patience import PATIENCE
from web.asgi import Headers, Message, Receive, Scope, Send, respond
from web.middleware import Middleware
from web.policies.identity import unauthenticated
from web.protocol.secure_headers import POLICY, SECURE_HEADERS

METHODS = ("GET", "POST", "OPTIONS")


@pytest.fixture(params=PROCESSES)
def app(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Middleware:
    """What a process gives to its server."""
    return application_of(request.param, monkeypatch)


async def headers_of(app: Middleware, method: str, target: str) -> Headers:
    path, _, query = target.partition("?")
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False} if not sent else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "headers": []}
    scope.update(query_string=query.encode(), client=("127.0.0.1", 1), extensions={})
    async with asyncio.timeout(PATIENCE):
        await app(scope, receive, send)
    return list(sent[0]["headers"])


async def test_every_path_of_every_process_answers_with_them(app: Middleware) -> None:
    """No server is there, so what needs one fails: its answer has them, too."""
    with capture_logs():
        for target in sorted(paths_of(app)):
            for method in METHODS:
                found = await headers_of(app, method, target)
                assert_secured(found, is_page=target.startswith(("/docs", "/console")))


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"no HTTP\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /%b HTTP/1.1\r\nHost: here\r\n\r\n" % (b"x" * 9_000), 414),
        (b"GET / HTTP/1.1\r\nHost: here\r\nX: %b\r\n\r\n" % (b"x" * 40_000), 431),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 401),
        (b"", 503),
    ],
    ids=["no HTTP", "no host", "long target", "large head", "no credentials", "one connection too many"],
)
async def test_refusals_before_the_door_have_them(request_bytes: bytes, status: int) -> None:
    app = Middleware(noting([]), "test", {}, policies=(lambda _: unauthenticated("No."),))
    found, headers, body = await asked(app, request_bytes, max_connections=0 if status == 503 else 40)
    assert (found, body["success"]) == (status, False)
    assert headers["x-request-id"]
    assert_secured([(name.encode(), value.encode()) for name, value in headers.items()])


async def test_an_application_that_fails_has_them() -> None:
    app = Middleware(broken, "test", {})
    status, headers, body = await asked(app, b"GET /x HTTP/1.1\r\nHost: here\r\n\r\n")
    assert (status, body["error"]) == (500, "Internal server error")
    assert_secured([(name.encode(), value.encode()) for name, value in headers.items()])


async def test_a_page_has_one_policy_its_own() -> None:
    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, 200, b"", b"text/html", (POLICY, b"default-src 'self'"))

    found = await headers_of(Middleware(page, "test", {}), "GET", "/docs")
    assert [value for name, value in found if name == POLICY] == [b"default-src 'self'"]


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        raise LookupError("a bug")
    await noting([])(scope, receive, send)


async def asked(app: Middleware, sent: bytes, max_connections: int = 40) -> tuple[int, dict[str, str], Any]:
    async with served(app, max_connections=max_connections) as server:
        client = Client(*await asyncio.open_connection("127.0.0.1", port_of(server)))
        answer = await client.ask(sent)
        client.writer.close()
    return answer


def assert_secured(headers: Headers, *, is_page: bool = False) -> None:
    counted = Counter(name for name, _ in headers)
    assert {counted[name] for name, _ in SECURE_HEADERS} == {1}, headers
    found = dict(headers)
    for name, value in SECURE_HEADERS:
        if is_page and name == POLICY:
            assert all(part in found[name] for part in value.split(b"; ")), found
        else:
            assert found[name] == value
