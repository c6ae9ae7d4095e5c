"""Where people have IPv6: what a process listens on, whom it takes its clients for, and addresses in its settings."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from pydantic import SecretStr

from brokers.diagnosis import diagnose
from identity.settings import IdentitySettings
from projector.settings import ProjectorSettings
from tests.drivers.raw_http import until, within
from tests.ports import free_port
from web.asgi import Receive, Scope, Send, respond
from web.policies.hosts import is_loopback
from web.policies.request_head import RequestHead
from web.policies.trusted_proxies import TrustedProxies
from web.server import server_of
from web.serving_settings import ServingSettings

BOTH = ("127.0.0.1", "[::1]")


async def says_who_asks(scope: Scope, _receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await respond(send, 200, scope["client"][0].encode(), b"text/plain")


async def heard_at(host: str) -> list[str]:
    """Whom a process with this HOST takes its clients for, who come by IPv4 and by IPv6; empty: it was not reached."""
    port, heard = free_port(), []
    server = server_of(says_who_asks, host, port, 10)
    task = asyncio.create_task(server.serve_unsignalled())
    await until(lambda: server.started)
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            for address in BOTH:
                try:
                    heard.append((await client.get(f"http://{address}:{port}/")).text)
                except httpx.ConnectError:
                    heard.append("")
    finally:
        server.should_exit = True
        await within(task)
    return heard


@pytest.mark.parametrize(
    ("host", "heard"),
    [
        ("::", ["127.0.0.1", "::1"]),  # each by the address that it has, none in the form of the other
        ("::1", ["", "::1"]),
        ("0.0.0.0", ["127.0.0.1", ""]),  # noqa: S104
        ("127.0.0.1", ["127.0.0.1", ""]),
    ],
)
async def test_a_process_is_reached_where_it_listens(host: str, heard: list[str]) -> None:
    assert await heard_at(host) == heard


@pytest.fixture
def given() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as environment:
        yield environment


@pytest.mark.parametrize(
    ("text", "host"), [("[::1]", "::1"), ("[::]", "::"), ("::1", "::1"), ("LocalHost", "localhost"), ("", "")]
)
def test_an_address_to_listen_on_may_stand_in_brackets(given: pytest.MonkeyPatch, text: str, host: str) -> None:
    given.setenv("HOST", text)
    given.setenv("PROJECTOR_HOST", text)
    assert ServingSettings().host == host
    assert ProjectorSettings(database_url=SecretStr("postgresql://here")).projector_host == host
    assert is_loopback(ServingSettings().host) == (host in ("::1", "localhost"))


@pytest.mark.parametrize("network", ["10.0.0.0/8", "::ffff:10.0.0.0/104", "::ffff:0.0.0.0/96", "::ffff:10.0.0.1"])
@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1"])
def test_a_proxy_is_trusted_in_whichever_form_it_is_written(network: str, peer: str) -> None:
    head = RequestHead("GET", "/", b"/", b"", [(b"x-forwarded-for", b"2001:db8::1")], (peer, 1), "http")
    TrustedProxies(IdentitySettings(trusted_proxies=network).proxies())(head)
    assert head.client is not None
    assert head.client[0] == "2001:db8::1"


async def test_a_broker_that_is_away_is_named_as_it_was_given() -> None:
    options = {"bootstrap_servers": f"[::1]:{free_port()}", "security_protocol": "PLAINTEXT", "sasl_mechanism": "PLAIN"}
    assert f"Kafka at {options['bootstrap_servers']}: it cannot be reached" in (await diagnose(options)).sentence
