"""What pages in browsers may ask for: hosts, origins, preflights, beacons; and who asks behind proxies."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest
from pydantic import ValidationError

from command_side.app import CommandSide
from command_side.settings import CommandSettings
from footfall.processes.identity import browsers_of, proxies_of
from identity.settings import IdentitySettings
from tests.drivers.applications import ask, noting
from tests.drivers.identity import OPEN
from tests.drivers.keys import ORIGIN, HandMadeRegister
from tests.drivers.raw_http import DIRECT, ON_ASGI, Client, port_of, post, served
from tests.servers import Servers
from tests.shipped_types import SHIPPED
from tests.topic_reader import read_topic
from web.application import web_app
from web.fast_handler import BufferedRequest
from web.middleware import Middleware
from web.policies.decisions import RequestPolicy
from web.policies.hosts import host_in, is_accepted, is_loopback
from web.policies.request_head import RequestHead
from web.policies.trusted_proxies import TrustedProxies

LISTED = "https://app.example"
EVIL = "https://evil.example"


@pytest.fixture
def topic(new_topic: Callable[..., str]) -> str:
    return new_topic(1)


def rules(host: str = "127.0.0.1", made: HandMadeRegister | None = None, **settings: str) -> list[RequestPolicy]:
    """The first policies of a process with these settings."""
    register = HandMadeRegister().register if made is None else made.register
    found = IdentitySettings(**settings)  # type: ignore[arg-type]
    return [*proxies_of(found), browsers_of(found, host, lambda: register.origins)]


@asynccontextmanager
async def client_of(*policies: RequestPolicy) -> AsyncIterator[Client]:
    def handle(request: BufferedRequest) -> None:
        request.answer(200, b"{}", b"application/json")

    app = Middleware(noting([]), "test", {}, {}, {DIRECT.encode(): handle}, policies)
    async with served(app) as server:
        client = Client(*await asyncio.open_connection("127.0.0.1", port_of(server)))
        yield client
        client.writer.close()


def sent_to(host: str, *headers: str, target: str = DIRECT) -> bytes:
    return post("u", *headers, target=target).replace(b"Host: here", f"Host: {host}".encode(), 1)


@pytest.mark.parametrize(
    ("host", "accepted"),
    [
        *((host, True) for host in ("127.0.0.1", "127.0.0.1:3000", "[::1]:3000", "localhost:3000", "LOCALHOST")),
        *((host, True) for host in ("command-side:3001", "here", "10.1.2.3", "api.localhost", "shop.example:80", "")),
        *((host, True) for host in ("a.b.internal.example", "A.INTERNAL.EXAMPLE")),
        *(
            (host, False)
            for host in ("evil.example", "evil.example:3000", "localhost.evil.example", "127.0.0.1.nip.io")
        ),
        *((host, False) for host in ("xshop.example", "internal.example", "evil.example,localhost")),
        *((host, False) for host in ("evil.example.", "2130706433.example", "evil!example", "xn--bcher-kva.example")),
        *(
            (host, True)
            for host in ("localhost.", "localhost.:3000", "shop.example.", "localhost:", "command_side:3001")
        ),
    ],
)
def test_only_names_that_no_stranger_can_own_are_accepted(host: str, accepted: bool) -> None:
    found = host_in(host.encode())
    assert found is not None
    assert is_accepted(found, ["shop.example", ".internal.example"]) == accepted


NO_HOSTS = {
    "a fragment": b"evil.example#.localhost",
    "a path": b"evil.example/.localhost",
    "a query": b"evil.example?.localhost",
    "a backslash": b"evil.example\\.localhost",
    "user information": b"evil.example@localhost",
    "user information without a dot": b"evil:x@localhost",
    "a space": b"127.0.0.1 evil.example",
    "two": b"localhost, evil.example/",
    "port that is none": b"a.example:b",
    "port too large": b"localhost:65536",
    "port too long": b"localhost:000080",
    "port with a sign": b"localhost:+80",
    "two ports": b"localhost:80:80",
    "a port alone": b":3000",
    "no address in brackets": b"[evil.example]",
    "a zone": b"[fe80::1%25eth0]",
    "a zone as others write it": b"[::1%evil]",
    "a future address": b"[v1.x]",
    "brackets that do not end": b"[::1",
    "bytes after the brackets": b"[::1]x",
    "no brackets": b"::1",
    "the root alone": b".",
    "letters beyond ASCII": "b\u00fccher.localhost".encode(),
    "the same in Latin-1": b"b\xfccher.localhost",
    "percent-encoding": b"evil.example%23.localhost",
    "a NUL": b"localhost\x00",
    "too long": b"a" * 256,
}


@pytest.mark.parametrize("name", NO_HOSTS)
async def test_what_is_no_host_is_refused_wherever_the_server_listens(name: str) -> None:
    assert host_in(NO_HOSTS[name]) is None
    for address in ("127.0.0.1", "0.0.0.0"):  # noqa: S104
        app = Middleware(noting([]), "test", {}, policies=rules(address))
        assert (await ask(app, "GET", "/x", [(b"host", NO_HOSTS[name])]))[0] == 400


async def test_what_is_no_host_is_refused_on_both_ways() -> None:
    async with client_of(*rules()) as client:
        for target in (DIRECT, ON_ASGI):
            status, _, body = await client.ask(sent_to("evil.example#.localhost", target=target))
            assert (status, body["error"]) == (400, "The header `Host` is no host with a port or without.")


@pytest.mark.parametrize("names", ["https://shop.example", "shop.example:80", "*.example", "a b", "-a", "a..b"])
def test_a_list_of_hosts_that_would_never_match_is_refused(names: str) -> None:
    with pytest.raises(ValidationError, match="no name of a host"):
        IdentitySettings(allowed_hosts=names)


@pytest.mark.parametrize(
    ("address", "is_local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("192.0.2.1", False),
        ("::1%lo", False),
    ],
)
def test_an_address_is_on_the_loopback_or_not(address: str, is_local: bool) -> None:
    assert is_loopback(address) == is_local


async def test_a_foreign_host_is_refused_on_both_ways_and_for_every_method() -> None:
    async with client_of(*rules()) as client:
        for target in (DIRECT, ON_ASGI):
            status, _, body = await client.ask(sent_to("evil.example:3000", target=target))
            assert (status, "ALLOWED_HOSTS" in body["error"]) == (421, True)
            assert (await client.ask(sent_to("localhost:3000", target=target)))[0] == 200
        client.writer.write(b"GET /events/processed HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert (await client.answer())[0] == 421


async def test_where_others_reach_the_server_any_host_will_do_unless_names_are_listed() -> None:
    for settings, status in (({}, 200), ({"allowed_hosts": "shop.example"}, 421)):
        async with client_of(*rules("0.0.0.0", **settings)) as client:  # type: ignore[arg-type]  # noqa: S104
            assert (await client.ask(sent_to("api.example")))[0] == status
            assert (await client.ask(sent_to("shop.example")))[0] == 200


@pytest.mark.parametrize("headers", [[f"Origin: {EVIL}"], ["Origin: null"], ["Sec-Fetch-Site: cross-site"]])
@pytest.mark.parametrize("content", [[], ["Content-Type: application/json"], ["Content-Type: text/plain"]])
async def test_a_foreign_page_cannot_send_anything(headers: Sequence[str], content: Sequence[str]) -> None:
    async with client_of(*rules()) as client:
        answers = [await client.ask(post("u", *headers, *content, target=way)) for way in (DIRECT, ON_ASGI)]
    assert [answer[0] for answer in answers] == [403, 403]
    assert "access-control-allow-origin" not in answers[0][1]


async def test_a_program_needs_neither_origin_nor_content_type_and_our_own_pages_may_send() -> None:
    async with client_of(*rules()) as client:
        for headers in ([], ["Sec-Fetch-Site: same-origin"], ["Origin: http://here"], ["Sec-Fetch-Site: none"]):
            status, answered, _ = await client.ask(post("u", *headers))
            assert status == 200, headers
            assert not {"vary", "access-control-allow-origin"} & answered.keys(), "as it always was"


async def test_a_listed_page_may_send_and_read_what_is_answered_on_both_ways() -> None:
    made = HandMadeRegister()
    made.key("public")
    for origin in (LISTED, ORIGIN):
        async with client_of(*rules(made=made, cors_origins=f"{LISTED}, http://localhost:5173")) as client:
            for target in (DIRECT, ON_ASGI):
                status, headers, _ = await client.ask(post("u", f"Origin: {origin}", target=target))
                assert (status, headers["access-control-allow-origin"], headers["vary"]) == (200, origin, "origin")
                assert headers["access-control-allow-credentials"] == "true"
                assert "footfall-position" in headers["access-control-expose-headers"]
            assert (await client.ask(post("u", f"Origin: {EVIL}")))[0] == 403
            assert "vary" not in (await client.ask(post("u")))[1], "nothing is stored, and no page asked"


async def test_a_page_reads_why_it_was_refused() -> None:
    made = HandMadeRegister()
    async with client_of(*rules(made=made, cors_origins=LISTED), made.identity) as client:
        refused = [f"Origin: {LISTED}", "Authorization: Bearer x"]
        for target in (DIRECT, ON_ASGI):
            status, headers, _ = await client.ask(post("u", *refused, target=target))
            assert (status, headers["access-control-allow-origin"]) == (401, LISTED)
            assert "www-authenticate" in headers["access-control-expose-headers"]


async def test_preflights_are_answered_before_anybody_is_asked_for_a_key() -> None:
    made = HandMadeRegister()
    app = Middleware(noting([]), "test", {}, policies=[*rules(made=made, cors_origins=LISTED), made.identity])
    asks = [(b"access-control-request-method", b"POST"), (b"access-control-request-headers", b"authorization")]
    async with served(app) as server:
        client = Client(*await asyncio.open_connection("127.0.0.1", port_of(server)))
        lines = "".join(f"{name.decode()}: {value.decode()}\r\n" for name, value in asks)
        client.writer.write(f"OPTIONS {DIRECT} HTTP/1.1\r\nHost: here\r\nOrigin: {LISTED}\r\n{lines}\r\n".encode())
        head = (await client.reader.readuntil(b"\r\n\r\n")).decode()
        client.writer.close()
    assert head.startswith("HTTP/1.1 204")
    for line in (f"allow-origin: {LISTED}", "allow-methods: GET, HEAD, POST, DELETE", "max-age: 7200"):
        assert f"access-control-{line}\r\n" in head
    assert "authorization, content-type, idempotency-key" in head
    status, headers, _ = await ask(app, "OPTIONS", DIRECT, [(b"origin", EVIL.encode()), *asks])
    assert (status, b"access-control-allow-origin" in headers) == (403, False)


async def test_any_page_may_send_where_the_setting_says_so() -> None:
    async with client_of(*rules(cors_origins="*")) as client:
        status, headers, _ = await client.ask(post("u", f"Origin: {EVIL}"))
    assert (status, headers["access-control-allow-origin"]) == (200, EVIL)
    assert "access-control-allow-credentials" not in headers


async def test_a_beacon_records_an_event_with_a_public_key_and_with_no_other(real_servers: Servers, topic: str) -> None:
    made = HandMadeRegister()
    public, secret = made.key("public", tenant="acme"), made.key("secret")
    settings = CommandSettings(kafka_bootstrap_servers=real_servers.kafka, kafka_topic=topic)
    app = web_app("command-side", made.identity, CommandSide(settings, SHIPPED), first=rules(made=made))
    text = ["Content-Type: text/plain;charset=UTF-8", f"Origin: {ORIGIN}"]
    async with served(app) as server:
        client = Client(*await asyncio.open_connection("127.0.0.1", port_of(server)))

        async def beacon(query: str, *headers: str) -> int:
            return (await client.ask(post("b", *headers, target=f"{DIRECT}?{query}")))[0]

        assert await beacon(f"key={public}", *text) == 201
        assert await beacon(f"key={public}", "Content-Type: application/json", f"Origin: {ORIGIN}") == 201
        assert await beacon(f"key={public}", text[0], f"Origin: {EVIL}") == 403
        assert await beacon(f"key={public}", text[0]) == 403
        assert await beacon(f"key={public}&key={public}", *text) == 401
        assert await beacon(f"key={secret}", *text) == 401
        assert await beacon("", *text) == 401
        assert (await client.ask(post("b", text[0], f"Authorization: Bearer {secret}")))[0] == 415
        status, _, _ = await client.ask(post("b", *text, target=f"/events/generate/batch?key={public}&atomic=true"))
        assert status == 400, "the body is no batch, and the query was understood"
        client.writer.close()
    stored = await read_topic(real_servers.kafka, topic)
    assert [json.loads(record.value)["tenantId"] for record in stored] == ["acme", "acme"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["6.6.6.6, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["6.6.6.6", "203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", ["6.6.6.6, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["nonsense, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["[2001:DB8::1]"], "2001:db8::1"),
        ("10.0.0.1", ["203.0.113.9:52044"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:DB8::1]:52044, 10.0.0.2:80"], "2001:db8::1"),
        ("10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, ::ffff:10.0.0.2"], "203.0.113.9"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9:"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9:x"], "10.0.0.1"),
        ("10.0.0.1", ["2001:db8::1%eth0"], "10.0.0.1"),
        ("127.0.0.1", ["203.0.113.9"], "127.0.0.1"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
    ],
)
def test_only_trusted_proxies_are_believed(peer: str, forwarded: Sequence[str], client: str) -> None:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    head = RequestHead("GET", "/", b"/", b"", headers, (peer, 1234), "http")
    TrustedProxies([ip_network("10.0.0.0/8")])(head)
    assert head.client is not None
    assert head.client[0] == client


async def test_nobody_is_believed_by_default_on_either_way() -> None:
    seen: list[str] = []

    def noted(head: RequestHead) -> object:
        assert head.client is not None
        seen.append(head.client[0])
        return OPEN(head)

    async with client_of(*rules(), noted) as client:  # type: ignore[arg-type]
        for target in (DIRECT, ON_ASGI):
            await client.ask(post("u", "X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https", target=target))
    async with client_of(*rules(trusted_proxies="127.0.0.0/8"), noted) as client:  # type: ignore[arg-type]
        for target in (DIRECT, ON_ASGI):
            await client.ask(post("u", "X-Forwarded-For: 203.0.113.9", target=target))
    assert seen == ["127.0.0.1"] * 2 + ["203.0.113.9"] * 2


@pytest.mark.parametrize(
    "wrong", [{"cors_origins": "shop.example"}, {"cors_origins": f"{LISTED},*"}, {"trusted_proxies": "nginx"}]
)
def test_a_setting_that_would_not_work_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        IdentitySettings(**wrong)  # type: ignore[arg-type]
