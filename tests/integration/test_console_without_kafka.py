"""Kafka is away for long, and keys come by it: an operator who was known looks at how the service is, and no more."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from brokers.settings import KafkaSettings
from console.sessions import LOOKING_ON, SIGN_IN
from identity.keys.administration import Wanted, create, revoke
from identity.keys.topic import ensure_topic, opened
from tests.conftest import Footfall
from tests.drivers.own_broker import OwnBroker
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from web.access import ACCESS, PUBLIC

TOPIC = "keys"
PAGE = {"Accept": "text/html"}
CLOSED = sorted(
    path
    for path, needed in ACCESS.items()
    if path.startswith("/console") and needed is not PUBLIC
    if path not in LOOKING_ON
)
SAYS_WHY = "Kafka, which carries the register of keys, was last heard"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[OwnBroker]:
    found = OwnBroker(tmp_path)
    yield found
    found.stop()


async def keys_of(broker: OwnBroker) -> dict[str, str]:
    """Keys by what is known of them."""
    options = KafkaSettings(kafka_bootstrap_servers=broker.address).client_options()
    await ensure_topic(options, TOPIC, 1)
    async with opened(options, TOPIC) as register:
        made = {name: await create(register, Wanted("operator", "default", name, "test")) for name in ("good", "gone")}
        await revoke(register, made["gone"].record.key_id)
        reader = await create(register, Wanted("secret", "default", "reader", "test"))
    return {**{name: one.key for name, one in made.items()}, "reader": reader.key}


def start(footfall: Footfall, broker: OwnBroker) -> Process:
    owner = footfall.servers.admin_url
    kafka = {"KAFKA_BOOTSTRAP_SERVERS": broker.address, "KAFKA_KEYS_TOPIC": TOPIC}
    return footfall.start(
        "console", ready=False, OPERATOR_DATABASE_URL=owner, AUTH="keys", KEYS_STALE_MS="5000", **kafka
    )


def sign_in(client: httpx.Client, key: str) -> httpx.Response:
    [token, *_] = re.findall(r'name="token" value="([0-9a-f]{64})"', client.get(SIGN_IN).text)
    return client.post(SIGN_IN, data={"key": key, "token": token})


def test_an_operator_who_was_known_sees_how_the_service_is_and_nothing_else(
    footfall: Footfall, broker: OwnBroker
) -> None:
    keys = asyncio.run(keys_of(broker))
    console = start(footfall, broker)
    wait_until(lambda: answers(console), 30, "the console")
    with httpx.Client(base_url=console.url, timeout=PATIENCE, headers=PAGE) as client:
        wait_until(lambda: sign_in(client, keys["good"]).status_code == 303, 30, "the register to be known")
        assert SAYS_WHY not in client.get("/console").text
        broker.stop()
        wait_until(lambda: SAYS_WHY in client.get("/console").text, 30, "the page to say that keys cannot be checked")
        page = client.get("/console").text
        assert ("looks only" in page, 'href="/console/live"' in page) == (True, False)
        assert {client.get(path).status_code for path in LOOKING_ON - {SIGN_IN}} == {200}
        wait_until(lambda: "It cannot be used" in client.get("/console").text, 30, "the overview to say what is wrong")
        for path in CLOSED:
            answer = client.get(path)
            assert (answer.status_code, "footfall doctor" in answer.text) == (503, True), path
        form = {"token": re.findall(r'name="token" value="(\w+)"', page)[0], "what": "start"}
        assert client.post("/console/generations/ask", data=form).status_code == 503
        assert client.get("/events/processed?limit=1").status_code == 503
        with httpx.Client(base_url=console.url, timeout=PATIENCE, headers=PAGE) as later:
            assert sign_in(later, keys["good"]).status_code == 303, "a new session, too"
            assert SAYS_WHY in later.get("/console").text
        for name, status in (("gone", 403), ("reader", 503)):
            with httpx.Client(base_url=console.url, timeout=PATIENCE) as other:
                assert sign_in(other, keys[name]).status_code == status, name
        broker.start()
        wait_until(lambda: SAYS_WHY not in client.get("/console").text, 30, "Kafka to be heard again")
        assert client.get("/console/dead-letters").status_code == 200


def test_a_console_that_starts_without_kafka_knows_nobody_and_says_what_to_do(
    footfall: Footfall, broker: OwnBroker
) -> None:
    key = asyncio.run(keys_of(broker))["good"]
    broker.stop()
    console = start(footfall, broker)
    wait_until(lambda: answers(console), 30, "the console")
    with httpx.Client(base_url=console.url, timeout=PATIENCE, headers=PAGE) as client:
        answer = sign_in(client, key)
        assert answer.status_code == 503
        assert "Kafka for keys" in answer.text
        assert "<code>footfall doctor</code>" in answer.text


def answers(console: Process) -> bool:
    try:
        return httpx.get(f"{console.url}{SIGN_IN}", timeout=PATIENCE).status_code == 200
    except httpx.TransportError:
        return False
