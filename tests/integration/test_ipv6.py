"""Where people have IPv6: what a process listens on, whom it takes its clients for, and addresses in its settings."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from brokers.diagnosis import diagnose
from brokers.settings import KafkaSettings
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


@pytest.mark.parametrize(
    ("text", "is_usable"),
    [
        ("[2001:db8::9]:9092", True),
        ("[::1]", True),
        ("::1", True),
        ("kafka_1.example.org:9092, 127.0.0.1:9093,localhost", True),
        ("[::1]:x", False),
        ("[::1", False),
        ("::1]:9092", False),
        ("kafka:", False),
        ("PLAINTEXT://kafka:9092", False),
        ("kafka:9092,", False),
        ("", False),
    ],
)
def test_a_broker_that_can_be_none_is_refused_by_name(text: str, *, is_usable: bool) -> None:
    if is_usable:
        assert KafkaSettings(kafka_bootstrap_servers=text).kafka_bootstrap_servers == text
    else:
        with pytest.raises(ValueError, match=r"is no broker: it is host:port, or \[::1\]:port of IPv6"):
            KafkaSettings(kafka_bootstrap_servers=text)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
async def test_an_address_that_is_none_of_this_machine_is_named(host: str) -> None:
    server = server_of(says_who_asks, host, free_port(), 10)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    with capture_logs() as logs, pytest.raises(SystemExit):
        await within(server.startup())
    assert {"event": "cannot_listen", "host": host, "port": server.config.port, "log_level": "error"} in logs


async def test_a_broker_that_is_away_is_named_as_it_was_given() -> None:
    options = {"bootstrap_servers": f"[::1]:{free_port()}", "security_protocol": "PLAINTEXT", "sasl_mechanism": "PLAIN"}
    assert f"Kafka at {options['bootstrap_servers']}: it cannot be reached" in (await diagnose(options)).sentence
