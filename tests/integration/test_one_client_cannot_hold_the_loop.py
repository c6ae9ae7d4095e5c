"""The worst that one client may send, bodies in a loop and pipelines: others are answered in between."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.conftest import Footfall
from tests.drivers.raw_http import Client, port_of, served, until
from tests.patience import PATIENCE
from tests.processes import Process
from web.asgi import Receive, Scope, Send, respond
from web.middleware import Middleware
from web.protocol.request_framing import MOST_WAITING, PipelinedHttp

BATCH, GENERATE = "/events/generate/batch", "/events/generate"
LISTS: list[Any] = [[[[[[[[[[]]]]]]]]] for _ in range(750)]
WORST = json.dumps(
    [{"userId": "u", "eventType": "LOGIN", "payload": {"a": LISTS}}] * 62, separators=(",", ":")
).encode()
ENDLESS = b"[" + b"[]," * 300_000 + b"[]]"
BATCHES = 4
PIPELINED = 5_000  # requests in one read of the socket
IN_BETWEEN = 10  # single commands for each batch, of the 62 slices that it is judged in


@pytest.fixture(scope="module")
def side(shared_footfall: Footfall) -> Process:
    return shared_footfall.start("command-side", IDEMPOTENCY_MEMORY_BYTES="0")


def test_single_commands_are_answered_while_the_worst_batches_are_judged(side: Process) -> None:
    under_way, ended = threading.Event(), threading.Event()
    in_between = 0

    def attack() -> list[int]:
        with httpx.Client(base_url=side.url, timeout=PATIENCE) as client:
            statuses = []
            for body in [WORST, ENDLESS] * BATCHES:
                under_way.set()
                statuses.append(client.post(BATCH, content=body).status_code)
            ended.set()
            return statuses

    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=side.url, timeout=PATIENCE) as client:
        attacking = pool.submit(attack)
        assert under_way.wait(PATIENCE)
        while not ended.is_set():
            assert client.post(GENERATE, json={"userId": "v", "eventType": "LOGIN"}).status_code == 201
            in_between += 1
        assert attacking.result(PATIENCE) == [201, 400] * BATCHES
    assert in_between >= BATCHES * IN_BETWEEN


async def test_of_a_pipeline_few_requests_are_taken_in_and_all_are_answered_in_their_order() -> None:
    may_answer, asked = asyncio.Event(), []

    async def numbered(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        asked.append(scope["query_string"])
        await may_answer.wait()
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        await respond(send, 200, b'["%b","%b"]' % (scope["query_string"], body), b"application/json")

    def request(number: int) -> bytes:
        body = b"b%d" % number if number % 7 == 0 else b""
        length = b"Content-Length: %d\r\n" % len(body) if body else b""
        return b"%b /?%d HTTP/1.1\r\nHost: x\r\n%b\r\n%b" % (b"POST" if body else b"GET", number, length, body)

    async with served(Middleware(numbered, "test", {})) as server:
        client = Client(*await asyncio.open_connection("127.0.0.1", port_of(server)))
        client.writer.write(b"".join(map(request, range(PIPELINED))))
        await until(lambda: len(asked) == 1)
        [connection] = server.server_state.connections
        assert isinstance(connection, PipelinedHttp)
        for _ in range(20):  # what else arrives
            await asyncio.sleep(0.01)
        assert len(connection.pipeline) <= MOST_WAITING
        may_answer.set()
        for number in range(PIPELINED):
            status, _, body = await client.answer()
            assert (status, body) == (200, [str(number), f"b{number}" if number % 7 == 0 else ""])
        client.writer.close()
