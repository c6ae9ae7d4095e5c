"""One spelling of a path: the policies decide by the very path that the routers route by."""

from typing import Any

import pytest

from web.asgi import App, Message, Receive, Scope, Send, respond
from web.hot_routes import RawRoutes
from web.middleware import JSON, Middleware
from web.policies.decisions import ADMIT, Decision
from web.policies.request_head import RequestHead, canonical, is_soundly_escaped

# As sent, the canonical path, and the route that gets it.
PATHS = [
    (b"/", "/", "otherwise"),
    (b"//", "/", "otherwise"),
    (b"*", "*", "otherwise"),
    (b"/direct", "/direct", "direct"),
    (b"/direct/", "/direct", "direct"),
    (b"//direct", "/direct", "direct"),
    (b"/d%69rect", "/direct", "direct"),
    (b"/direct%2F", "/direct%2F", "otherwise"),
    (b"/hot/page", "/hot/page", "exact"),
    (b"//hot//page//", "/hot/page", "exact"),
    (b"/hot%2Fpage", "/hot%2Fpage", "otherwise"),
    (b"/%68ot/page", "/hot/page", "exact"),
    (b"/of/ann/list", "/of/ann/list", "pattern"),
    (b"/%6Ff/%61nn/list/", "/of/ann/list", "pattern"),
    (b"/of//ann/list", "/of/ann/list", "pattern"),
    (b"/of/a%2fb/list", "/of/a%2Fb/list", "pattern"),
    (b"/of/ann%2Flist", "/of/ann%2Flist", "otherwise"),
    (b"/of/../list", "/of/../list", "pattern"),
    (b"/of/%2e%2e/list", "/of/../list", "pattern"),
    (b"/of/%ff%00+:@/list", "/of/%FF%00%2B%3A%40/list", "pattern"),
    (b"/of/100%/list", "/of/100%25/list", "pattern"),
    (b"/of/a%252Fb/list", "/of/a%252Fb/list", "pattern"),
    (b"/of//list", "/of/list", "refusing"),
]


@pytest.mark.parametrize(("sent", "path", "route"), PATHS)
async def test_the_policies_see_the_path_that_is_routed(sent: bytes, path: str, route: str) -> None:
    routed: list[tuple[str, str]] = []
    asked: list[str] = []

    def policy(head: RequestHead) -> Decision:
        asked.append(head.path)
        return ADMIT

    def app(name: str) -> App:
        async def run(scope: Scope, _receive: Receive, send: Send) -> None:
            routed.append((name, scope["path"]))
            await respond(send, 200, b"{}", JSON)

        return run

    hot = {"/hot/page": app("exact"), "/of/{id}/list": app("pattern"), "/of//{what}": app("refusing")}
    middleware = Middleware(RawRoutes(hot, app("otherwise")), "front", {}, {"/direct": app("direct")}, {}, [policy])
    await middleware(scope_of(sent), receive, send)
    assert (asked, routed) == ([path], [(route, path)])


@pytest.mark.parametrize("path", [path for _, path, _ in PATHS])
def test_a_canonical_path_is_its_own_spelling(path: str) -> None:
    assert canonical(path.encode()) == path


@pytest.mark.parametrize(
    ("method", "path", "query", "is_sound"),
    [
        ("GET", b"/of/a%2Fb/list", b"userId=100%25&x=%aF", True),
        ("DELETE", b"/users/%zz", b"", False),
        ("DELETE", b"/users/100%", b"", False),
        ("GET", b"/of/%2/list", b"", False),
        ("POST", b"/of/%+1/list", b"", False),
        ("GET", b"/of/ann/list", b"userId=%zz", False),
        ("HEAD", b"/of/ann/list", b"userId=100%", False),
        ("POST", b"/of/ann/list", b"what=100%", True),  # a command ignores its query
    ],
)
def test_a_percent_sign_begins_an_encoding(method: str, path: bytes, query: bytes, is_sound: bool) -> None:
    head = RequestHead(method, canonical(path), path, query, [], None, "http")
    assert is_soundly_escaped(head) is is_sound


def scope_of(raw_path: bytes) -> dict[str, Any]:
    decoded = raw_path.decode("latin-1").replace("%2F", "/")  # as a server decodes it: nothing may depend on it
    return {"type": "http", "method": "GET", "path": decoded, "raw_path": raw_path, "query_string": b"", "headers": []}


async def receive() -> Message:
    raise AssertionError("nobody reads a body")


async def send(_message: Message) -> None:
    """Nobody looks at the answer."""
