"""Every request of every process passes the request policies before anything else of it is looked at, on both ways."""

import ast
import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.repository import ROOT, modules
from tests.drivers.applications import PROCESSES, application_of, paths_of
from tests.drivers.raw_http import port_of, served, until, within
from web.asgi import Message, Receive, Scope, Send, respond
from web.fast_handler import BufferedRequest
from web.hot_routes import RawRoutes
from web.middleware import Middleware
from web.policies.decisions import ADMIT, Admit, Answer, Decision, NeedsIO, Refuse
from web.policies.passage import HEAD_KEY
from web.policies.request_head import RequestHead

PROCESS_MODULES = Path("footfall/processes")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
REFUSAL = Refuse(403, "Not you.", ((b"x-why", b"policy"),))
BODY = b'{"userId":"u","eventType":"LOGIN"}'


class Principal(str):
    """What a policy learns."""

    __slots__ = ()


# --- the applications, as their processes make them -----------------------------------------------------------------


def test_these_are_all_the_processes_that_serve() -> None:
    """A process serves if it imports `web.server`, or another module of a process that does."""
    imported = {path: imports_of(ROOT / path) for path in modules() if path.parts[0] != "web"}
    serving = {path for path, names in imported.items() if "web.server" in names}
    while True:
        names = {".".join(path.with_suffix("").parts) for path in serving}
        found = {path for path in imported if path.parent == PROCESS_MODULES and imported[path] & names}
        if found <= serving:
            break
        serving |= found
    assert {path.parent for path in serving} == {PROCESS_MODULES}
    assert {path.stem for path in serving} - {"serving"} == PROCESSES.keys()


def imports_of(path: Path) -> set[str]:
    """The modules that a module imports, inside functions, too."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    whole = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    parts = {
        name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module
        for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
    }
    return whole | parts


@pytest.fixture(params=PROCESSES)
def app(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Middleware:
    """What a process gives to its server."""
    return application_of(request.param, monkeypatch)


def with_a_refusing_policy(app: Middleware) -> list[object]:
    """Puts one first, and a recorder in place of whatever stands behind it. Returns what ran there."""
    ran: list[object] = []

    def recorder(what: object) -> Any:
        async def run(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await lifespan(receive, send)
            else:
                ran.append((what, scope["path"]))

        return run

    def policy(head: RequestHead) -> Decision:
        ran.append(head)
        return ADMIT

    app.app = recorder(app.app)
    app.direct_routes = {path: recorder(route) for path, route in app.direct_routes.items()}
    app.fast_handlers = dict.fromkeys(app.fast_handlers, ran.append)
    app.policies = (lambda _: REFUSAL, *[policy] * len(app.policies))
    return ran


def test_the_paths_come_from_the_application(app: Middleware) -> None:
    found = paths_of(app)
    assert {"/health", "/health/live", "/health/ready", "/metrics", "/"} <= found
    if isinstance(app.app, RawRoutes):
        assert {"/docs", "/nowhere"} <= found
        commands, queries = {"/events/generate", "/events/generate/batch"}, {"/events/processed", "/users/x/activity"}
        assert commands <= found or queries <= found


async def test_a_policy_refuses_every_path_on_asgi(app: Middleware) -> None:
    paths = paths_of(app)
    ran = with_a_refusing_policy(app)

    async def receive() -> Message:
        raise AssertionError("the body was asked for")

    for path in sorted(paths):
        for method in METHODS:
            sent: list[Message] = []
            await app(scope_of(method, path), receive, recording(sent))
            assert refused(sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]), (method, path)
    assert not ran


async def test_a_policy_refuses_every_path_over_a_socket(app: Middleware, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, fast = paths_of(app), {target.decode() for target in app.fast_handlers}
    ran = with_a_refusing_policy(app)
    on_asgi = noted_calls(monkeypatch)
    async with connected(app) as client:
        for path in sorted(paths):
            for method in METHODS if path != "*" else ["OPTIONS"]:
                on_asgi.clear()
                status, headers, body = await client.ask(method, path)
                assert refused(status, headers, body or envelope_of(REFUSAL)), (method, path)
                assert on_asgi == ([] if method == "POST" and path in fast else [path.partition("?")[0]])
    assert not ran


# --- what a policy may decide, on both ways -------------------------------------------------------------------------


class Seen:
    """An application that notes what it is given, on the fast path and on ASGI."""

    def __init__(self, *policies: Callable[[RequestHead], Any], fast: Callable[[BufferedRequest], None] | None = None):
        self.fast: list[tuple[Any, bytes]] = []  # principal and body
        self.asgi: list[tuple[Any, bytes, bytes]] = []  # and query
        self.app = Middleware(self.route, "test", {}, {}, {b"/here": fast or self.handle}, policies)

    def handle(self, request: BufferedRequest) -> None:
        self.fast.append((request.head.facts.get(Principal), request.body))
        request.answer(200, b"{}", b"application/json")

    async def route(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        body = (await receive())["body"]
        self.asgi.append((scope[HEAD_KEY].facts.get(Principal), body, scope["query_string"]))
        await respond(send, 200, b"{}", b"application/json")


class Policy:
    """Decides as told; knows how often it was asked, and what was released."""

    def __init__(self, decision: Any, after_io: Any = None) -> None:
        self.decision, self.after_io = decision, after_io
        self.asked: list[RequestHead] = []
        self.awaited = self.released = 0

    def __call__(self, head: RequestHead) -> Any:
        self.asked.append(head)
        return NeedsIO(self.ask) if self.after_io is not None else self.decision

    async def ask(self) -> Any:
        await asyncio.sleep(0)
        self.awaited += 1
        if isinstance(self.after_io, Exception):
            raise self.after_io
        return self.after_io

    def release(self, head: RequestHead) -> None:
        assert head in self.asked
        self.released += 1


def holding() -> Policy:
    """Admits, learns a principal and holds something for the request."""
    policy = Policy(None)
    policy.decision = Admit(Principal("ann"), query=b"", release=policy.release)
    return policy


@pytest.mark.parametrize("target", ["/here", "/here?token=secret"])
async def test_what_a_policy_learns_travels_with_the_request(target: str) -> None:
    policy = holding()
    seen = Seen(policy)
    async with connected(seen.app) as client:
        assert (await client.ask("POST", target))[0] == 200
    assert seen.fast == ([("ann", BODY)] if target == "/here" else [])
    assert seen.asgi == ([] if target == "/here" else [("ann", BODY, b"")])
    [head] = policy.asked
    assert (head.method, head.path, head.raw_path, head.scheme) == ("POST", "/here", b"/here", "http")
    assert head.client is not None
    assert (b"host", b"here") in head.headers
    assert policy.released == 1


async def test_a_policy_that_needs_io_sends_a_whole_request_the_asgi_way_and_is_asked_once() -> None:
    first, needs_io, last = holding(), Policy(None, after_io=Admit(Principal("bob"))), Policy(ADMIT)
    seen = Seen(first, needs_io, last)
    async with connected(seen.app) as client:
        for _ in range(2):
            assert (await client.ask("POST", "/here"))[0] == 200
    assert not seen.fast
    assert seen.asgi == [("bob", BODY, b"")] * 2
    assert [len(policy.asked) for policy in (first, needs_io, last)] == [2, 2, 2]
    assert (needs_io.awaited, first.released) == (2, 2)


async def test_a_policy_refuses_after_io() -> None:
    first, needs_io, last = holding(), Policy(None, after_io=REFUSAL), Policy(ADMIT)
    seen = Seen(first, needs_io, last)
    async with connected(seen.app) as client:
        for target in ("/here", "/elsewhere"):
            assert refused(*await client.ask("POST", target))
    assert (seen.fast, seen.asgi, last.asked) == ([], [], [])
    assert (needs_io.awaited, first.released) == (2, 2)


@pytest.mark.parametrize(
    "broken",
    [Policy(None), Policy(True), Policy(None, after_io=LookupError("a bug")), Policy(None, after_io=ADMIT.query or 1)],
    ids=["decides nothing", "decides True", "raises after I/O", "decides 1 after I/O"],
)
async def test_a_policy_that_is_broken_admits_nobody(broken: Policy) -> None:
    first, last = holding(), Policy(ADMIT)
    seen = Seen(first, broken, last)
    async with connected(seen.app) as client:
        for target in ("/here", "/elsewhere"):
            status, _, body = await client.ask("POST", target)
            assert (status, json.loads(body)["error"]) == (500, "Internal server error")
    assert (seen.fast, seen.asgi, last.asked) == ([], [], [])
    assert first.released == 2


async def test_a_policy_that_raises_admits_nobody() -> None:
    def broken(_: RequestHead) -> Decision:
        raise LookupError("a bug")

    seen = Seen(broken)
    async with connected(seen.app) as client:
        assert [(await client.ask("POST", target))[0] for target in ("/here", "/elsewhere")] == [500, 500]
    assert (seen.fast, seen.asgi) == ([], [])


async def test_what_a_later_policy_refuses_is_released() -> None:
    first = holding()
    async with connected(Seen(first, lambda _: REFUSAL).app) as client:
        for target in ("/here", "/elsewhere"):
            assert refused(*await client.ask("POST", target))
    assert first.released == 2


async def test_what_a_policy_adds_to_an_answer_is_there_whoever_answers() -> None:
    def adding(_: RequestHead) -> Decision:
        return Admit(headers=((b"x-limit", b"9"),))

    for policies in ([adding], [adding, lambda _: REFUSAL], [adding, Policy(None, after_io=REFUSAL)]):
        async with connected(Seen(*policies).app) as client:
            answers = [await client.ask("POST", target) for target in ("/here", "/elsewhere")]
        assert [headers[b"x-limit"] for _, headers, _ in answers] == [b"9", b"9"]


async def test_a_policy_may_answer_itself() -> None:
    seen = Seen(lambda _: Answer(204, ((b"x-why", b"policy"),)))
    async with connected(seen.app) as client:
        for method, target in (("POST", "/here"), ("OPTIONS", "/elsewhere")):
            status, headers, body = await client.ask(method, target)
            assert (status, headers[b"x-why"], headers[b"x-content-type-options"], body) == (
                *(204, b"policy", b"nosniff", b""),
            )
    assert (seen.fast, seen.asgi) == ([], [])


async def test_a_request_that_its_fast_handler_cannot_take_is_admitted_once() -> None:
    def broken(_: BufferedRequest) -> None:
        raise LookupError("a bug")

    policy = holding()
    seen = Seen(policy, fast=broken)
    async with connected(seen.app) as client:
        assert (await client.ask("POST", "/here"))[0] == 200
    assert seen.asgi == [("ann", BODY, b"")]
    assert (len(policy.asked), policy.released) == (1, 1)


async def test_what_a_policy_holds_is_released_when_the_client_leaves() -> None:
    policy, taken = holding(), asyncio.Event()
    seen = Seen(policy, fast=lambda _: taken.set())
    async with connected(seen.app) as client:
        client.send("POST", "/here")
        await taken.wait()
        assert policy.released == 0
        client.writer.close()
        await until(lambda: policy.released == 1)


async def test_a_refusal_that_closes_is_the_last_answer_of_its_connection() -> None:
    seen = Seen(lambda _: Refuse(413, "Too large.", ((b"connection", b"close"),)))
    for target in ("/here", "/elsewhere"):
        async with connected(seen.app) as client:
            assert (await client.ask("POST", target))[0] == 413
            assert await client.reader.read() == b""


async def test_what_is_no_request_and_no_lifespan_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="websocket"):
        await Seen().app({"type": "websocket"}, recording([]), recording([]))  # type: ignore[arg-type]


# --- clients ----------------------------------------------------------------------------------------------------------


class Client:
    """One connection to the real server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, method: str, target: str) -> None:
        body = b"" if method in ("GET", "HEAD", "OPTIONS") else BODY
        head = f"{method} {target} HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)

    async def ask(self, method: str, target: str) -> tuple[int, dict[bytes, bytes], bytes]:
        """Status, headers and body of the answer."""
        self.send(method, target)
        head = await within(self.reader.readuntil(b"\r\n\r\n"))
        lines = head.split(b"\r\n")
        headers = {name: value for name, _, value in (line.partition(b": ") for line in lines[1:-2])}
        length = 0 if method == "HEAD" else int(headers.get(b"content-length", 0))
        return int(lines[0].split(b" ")[1]), headers, await within(self.reader.readexactly(length))


@asynccontextmanager
async def connected(app: Middleware) -> AsyncIterator[Client]:
    """A client of the real server."""
    async with served(app) as server:
        client = Client(*await asyncio.open_connection("127.0.0.1", port_of(server)))
        try:
            yield client
        finally:
            client.writer.close()


async def lifespan(receive: Receive, send: Send) -> None:
    """Nothing to start, nothing to end."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def scope_of(method: str, target: str) -> Scope:
    path, _, query = target.partition("?")
    headers = [(b"content-length", b"%d" % len(BODY))]
    return {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}


def recording(sent: list[Message]) -> Send:
    async def send(message: Message) -> None:
        sent.append(message)

    return send


def noted_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that were asked for on ASGI."""
    paths: list[str] = []
    call = Middleware.__call__

    async def noted(self: Middleware, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            paths.append(scope["path"])
        await call(self, scope, receive, send)

    monkeypatch.setattr(Middleware, "__call__", noted)
    return paths


def envelope_of(refusal: Refuse) -> bytes:
    return json.dumps(
        {"success": False, "event": None, "errors": None, "error": refusal.error}, separators=(",", ":")
    ).encode()


def refused(status: int, headers: dict[bytes, bytes], body: bytes) -> bool:
    """Whether this is the policy's own refusal, with the headers of every answer."""
    return (status, headers[b"x-why"], body, headers[b"x-content-type-options"]) == (
        REFUSAL.status,
        b"policy",
        envelope_of(REFUSAL),
        b"nosniff",
    ) and b"x-request-id" in headers
