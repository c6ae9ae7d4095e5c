"""Limits at a real server: 429 with the same bytes on both ways of a POST, and headers that say what is left."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from footfall.processes.identity import NO_ORIGINS, browsers_of
from identity.settings import IdentitySettings
from tests.drivers.applications import application_of
from tests.drivers.raw_http import DIRECT, ON_ASGI, Client, port_of, post, served, until
from web.asgi import Message, Receive, Scope, Send, respond
from web.fast_handler import BufferedRequest
from web.middleware import Middleware
from web.policies.browsers import Browsers
from web.policies.decisions import Admit, Decision, RequestPolicy
from web.policies.limits.rate_limits import KeyOf, RateLimits, address_of, subject_of
from web.policies.limits.rates import Rate
from web.policies.principal import AccessScope, Principal
from web.policies.request_head import RequestHead
from web.policies.trusted_proxies import TrustedProxies
from web.protocol.connection_places import ConnectionPlaces

GET = b"GET /events/processed HTTP/1.1\r\nHost: here\r\nX-Subject: key:1\r\n\r\n"


def knows(head: RequestHead) -> Decision:
    """Whoever says so."""
    subject = next(value.decode() for name, value in head.headers if name == b"x-subject")
    return Admit(Principal("acme", subject, frozenset(AccessScope)))


@asynccontextmanager
async def server(rates: Sequence[tuple[Rate, KeyOf]]) -> AsyncIterator[Client]:
    handlers = {DIRECT.encode(): accepts_at_once}
    app = Middleware(accepts, "test", {}, {}, handlers, (knows, RateLimits(rates)))
    async with served(app) as running:
        client = Client(*await asyncio.open_connection("127.0.0.1", port_of(running)))
        yield client
        client.writer.close()


async def accepts(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "lifespan":
        await respond(send, 201, b"{}", b"application/json")
        return
    while (await receive())["type"] != "lifespan.shutdown":
        started: Message = {"type": "lifespan.startup.complete"}
        await send(started)
    await send({"type": "lifespan.shutdown.complete"})


def accepts_at_once(request: BufferedRequest) -> None:
    request.answer(201, b"{}", b"application/json")


async def asked(client: Client, subject: str, target: str) -> tuple[int, dict[str, str], Any]:
    status, headers, body = await client.ask(post("user-1", f"X-Subject: {subject}", target=target))
    return status, {name: value for name, value in headers.items() if name not in ("date", "x-request-id")}, body


async def test_too_many_are_refused_with_the_same_bytes_on_both_ways() -> None:
    async with server([(Rate("subject", 4, 86_400.0), subject_of)]) as client:
        admitted = [await asked(client, "key:1", target) for target in (DIRECT, ON_ASGI, DIRECT, ON_ASGI)]
        assert [status for status, _, _ in admitted] == [201] * 4
        assert [headers.get("ratelimit") for _, headers, _ in admitted] == [
            None,
            None,
            '"subject";r=1;t=64800',
            '"subject";r=0;t=86400',
        ]
        refused = [await asked(client, "key:1", target) for target in (DIRECT, ON_ASGI)]
        for status, headers, body in refused:
            assert status == 429
            assert headers["retry-after"] == "21600"
            assert headers["ratelimit-policy"] == '"subject";q=4;w=86400'
            assert headers["ratelimit"] == '"subject";r=0;t=21600'
            assert body == {
                "success": False,
                "event": None,
                "errors": None,
                "error": "Too many requests: the limit of this subject. Nothing was done; try again later.",
            }
        assert refused[0] == refused[1]
        assert (await asked(client, "key:2", DIRECT))[0] == 201  # on the same connection


async def test_one_address_has_only_so_many_connections() -> None:
    app = Middleware(accepts, "test", {}, {}, {DIRECT.encode(): accepts_at_once}, (knows,))
    async with served(app, max_connections=40, max_of_address=3) as running, AsyncExitStack() as stack:

        async def connected() -> Client:
            client = Client(*await asyncio.open_connection("127.0.0.1", port_of(running)))
            stack.callback(client.writer.close)
            return client

        slow = [await connected() for _ in range(3)]
        for client in slow:
            client.writer.write(b"POST ")  # a head that does not end keeps a connection busy
        status, headers, body = await (await connected()).answer()
        assert (status, headers["connection"]) == (503, "close")
        assert body["error"] == "Too many connections are open. Nothing was recorded; try again shortly."
        slow[0].writer.close()
        await until(lambda: len(running.server_state.connections) < 3)
        assert (await asked(await connected(), "key:1", DIRECT))[0] == 201


async def test_another_address_still_gets_its_connections() -> None:
    places = ConnectionPlaces(most=100, most_of_address=2)
    one, other = ("192.0.2.1", 1), ("192.0.2.2", 1)
    assert [places.take(one, []) for _ in range(4)] == [True, True, False, False]
    assert places.take(other, [])
    assert places.take(None, [])
    for _ in range(3):
        places.give_back(one)
    assert places.take(one, [])
    assert not any(ConnectionPlaces(most=1).take(other, [Busy(), Busy()]) for _ in range(3))  # no place at all


async def test_all_addresses_of_an_ipv6_customer_are_one() -> None:
    places = ConnectionPlaces(most=100, most_of_address=2)
    clients = [(f"2001:db8:1:2::{number}", number) for number in range(1, 5)]
    assert [places.take(client, []) for client in clients] == [True, True, False, False]
    assert places.take(("2001:db8:1:3::1", 1), [])
    for client in clients:
        places.give_back(client)
    assert places.take(clients[0], [])


class Busy:
    """A connection that is needed."""

    def idle_since(self) -> float | None:
        return None

    def has_asked(self) -> bool:
        return True

    def give_way(self) -> None:
        raise AssertionError

    def close_if_overdue(self, now: float) -> None:
        raise AssertionError


async def test_reads_and_commands_have_one_limit() -> None:
    async with server([(Rate("address", 3, 86_400.0), address_of)]) as client:
        assert (await asked(client, "key:1", DIRECT))[0] == 201
        assert (await client.ask(GET))[0] == 201
        assert (await client.ask(GET))[0] in (201, 429)  # the first read paid for its time
        status, headers, body = await client.ask(GET)
        assert (status, body["success"]) == (429, False)
        assert "retry-after" in headers


JUNK = {
    "no HTTP": (b"junk\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "a long target": (b"GET /%b HTTP/1.1\r\nHost: here\r\n\r\n" % (b"x" * 9_000), 414),
    "a large head": (b"GET / HTTP/1.1\r\nHost: here\r\nX: %b\r\n\r\n" % (b"x" * 40_000), 431),
    "an unknown path": (post("u", "X-Subject: key:1", target="/nowhere"), 404),
    "no host that there is": (post("u").replace(b"here", b"a#b"), 400),
    "a foreign host": (post("u").replace(b"here", b"evil.example"), 421),
}


async def test_junk_costs_its_address_a_unit_each_and_then_nothing_more_is_looked_at() -> None:
    """Behind the limit of the address stands the door, as in a process (`footfall/processes/serving.py`)."""
    limit: list[RequestPolicy] = [RateLimits([(Rate("address", len(JUNK), 86_400.0), address_of)])]
    browsers = browsers_of(IdentitySettings(), "127.0.0.1", lambda: NO_ORIGINS)
    app = Middleware(finds_nothing, "test", {}, policies=[*limit, browsers, knows], unparsed=limit)
    async with served(app) as running:

        async def asked_anew(sent: bytes) -> tuple[int, dict[str, str], Any]:
            client = Client(*await asyncio.open_connection("127.0.0.1", port_of(running)))
            answer = await client.ask(sent)
            client.writer.close()
            return answer

        for sent, status in JUNK.values():
            assert (await asked_anew(sent))[0] == status
        for sent, _ in JUNK.values():
            status, headers, body = await asked_anew(sent)
            assert (status, body["success"]) == (429, False)
            assert {"retry-after", "ratelimit", "x-request-id"} <= headers.keys()


async def finds_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await (accepts(scope, receive, send) if scope["type"] == "lifespan" else respond(send, 404, b"{}", b"text/plain"))


def test_a_process_has_the_door_behind_the_limit_of_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LIMIT_ADDRESS", "100")
        environment.setenv("TRUSTED_PROXIES", "10.0.0.0/8")
        for process in ("command_side", "query_side", "front"):
            app = application_of(process, monkeypatch)
            assert [type(policy) for policy in app.policies[:3]] == [TrustedProxies, RateLimits, Browsers]
            assert app.unparsed == app.policies[1:2]
