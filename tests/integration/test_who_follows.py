"""Repeats that wait for another request's record, through the real server and Kafka: all that is acknowledged is there.

Kafka is held behind a proxy while a first client sends keyed commands, others repeat them, and the first one leaves.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiokafka.client
import pytest

from command_side.app import CommandSide
from command_side.settings import CommandSettings
from tests.drivers.identity import OPEN
from tests.drivers.raw_http import Client, in_flight, port_of, post, served, until, within
from tests.servers import Servers
from tests.shipped_types import SHIPPED
from tests.tcp_proxy import TcpProxy, tcp_proxy
from tests.topic_reader import read_topic
from web.application import web_app

BATCH = "/events/generate/batch"
KEYS = [f"k{n}" for n in range(10)]
ITEMS = [{"userId": f"u{n}", "eventType": "LOGIN", "idempotencyKey": key} for n, key in enumerate(KEYS)]
TWICE = json.dumps([*ITEMS, *ITEMS[:3]]).encode()  # some keys twice in one batch
EQUAL = json.dumps(ITEMS).encode()


@asynccontextmanager
async def side_behind(
    proxy: TcpProxy, kafka: str, topic: str, timeout_ms: int, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[int]:
    """A command side in this process all of whose connections to Kafka lead through the proxy; its port."""
    connect = aiokafka.client.create_conn
    monkeypatch.setattr(
        aiokafka.client, "create_conn", lambda _host, _port, **options: connect("127.0.0.1", proxy.port, **options)
    )
    settings = CommandSettings(kafka_bootstrap_servers=kafka, kafka_topic=topic, publish_timeout_ms=timeout_ms)
    async with served(web_app("command-side", OPEN, CommandSide(settings, SHIPPED))) as server:
        yield port_of(server)
        proxy.thaw()


@pytest.fixture
def topic(new_topic: Callable[..., str]) -> str:
    return new_topic(3)


@pytest.mark.parametrize("hesitates", ["a while", "too long"])
@pytest.mark.parametrize("first", ["on its way", "behind another"])
async def test_what_is_acknowledged_is_in_the_topic_when_the_first_client_leaves(
    real_servers: Servers,
    topic: str,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
    hesitates: str,
) -> None:
    host, port = real_servers.kafka.split(",")[0].split(":")
    timeout_ms = 60_000 if hesitates == "a while" else 1_000
    with tcp_proxy(host, int(port)) as proxy:
        async with side_behind(proxy, real_servers.kafka, topic, timeout_ms, monkeypatch) as at:
            connected: list[Client] = []

            async def connect() -> Client:
                connected.append(Client(*await asyncio.open_connection("127.0.0.1", at)))
                return connected[-1]

            async def sent(request: bytes) -> Client:
                """A client whose request has come in, and is held."""
                before, client = in_flight(), await connect()
                client.writer.write(request)
                await until(lambda: in_flight() == before + 1)
                return client

            assert (await (await connect()).ask(post("warm")))[0] == 201
            proxy.freeze()
            others = [await sent(post("another"))] if first == "behind another" else []
            leader = await sent(post(target=BATCH, body=TWICE))
            await within(asyncio.to_thread(proxy.holding.wait))
            followers = [await sent(post(target=BATCH, body=EQUAL)), await sent(post("u0", "Idempotency-Key: k0"))]
            leader.writer.close()
            if hesitates == "a while":
                proxy.thaw()
            answers = [await client.answer() for client in (*followers, *others)]
            proxy.thaw()
            assert acknowledged(answers) <= await stored(real_servers.kafka, topic)
            if hesitates == "a while":
                assert {status for status, _, _ in answers} == {201}
                repeat = await (await connect()).ask(post(target=BATCH, body=EQUAL))
                assert repeat[2]["results"] == answers[0][2]["results"]
            for client in connected:
                client.writer.close()
                await client.writer.wait_closed()


def acknowledged(answers: list[tuple[int, dict[str, str], Any]]) -> set[str]:
    """The ids of all events that were answered 201, whole or in a batch."""
    results = [one for _, _, body in answers for one in body.get("results", [body])]
    return {one["event"]["eventId"] for one in results if one["event"] is not None}


async def stored(kafka: str, topic: str) -> set[str]:
    return {json.loads(record.value)["eventId"] for record in await read_topic(kafka, topic)}
