"""Limits at a real server: 429 with the same bytes on both ways of a POST, and headers that say what is left."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tests.drivers.raw_http import DIRECT, ON_ASGI, Client, port_of, post, served
from web.asgi import Message, Receive, Scope, Send, respond
from web.fast_handler import BufferedRequest
from web.middleware import Middleware
from web.policies.decisions import Admit, Decision
from web.policies.limits.rate_limits import KeyOf, RateLimits, address_of, subject_of
from web.policies.limits.rates import Rate
from web.policies.principal import AccessScope, Principal
from web.policies.request_head import RequestHead

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


async def test_reads_and_commands_have_one_limit() -> None:
    async with server([(Rate("address", 3, 86_400.0), address_of)]) as client:
        assert (await asked(client, "key:1", DIRECT))[0] == 201
        assert (await client.ask(GET))[0] == 201
        assert (await client.ask(GET))[0] in (201, 429)  # the first read paid for its time
        status, headers, body = await client.ask(GET)
        assert (status, body["success"]) == (429, False)
        assert "retry-after" in headers
