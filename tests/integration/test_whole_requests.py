"""POSTs that are answered without a task, beside the same on ASGI; clients that leave; connections within bounds."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
import pytest_asyncio

from command_side.api import fast_single
from command_side.api.fast_single import FastCommands
from command_side.app import CommandSide
from command_side.policies.requests_in_flight import RequestsInFlight
from command_side.publishing import kafka_event_log
from command_side.publishing.produce_round import ProduceRound
from command_side.settings import CommandSettings
from tests.drivers.identity import OPEN
from tests.drivers.keys import HandMadeRegister
from tests.drivers.raw_http import (
    DIRECT,
    MAX_CONNECTIONS,
    ON_ASGI,
    Client,
    in_flight,
    port_of,
    post,
    served,
    until,
    within,
)
from tests.patience import PATIENCE
from tests.servers import Servers
from tests.shipped_types import SHIPPED
from tests.topic_reader import read_topic
from web import server as serve
from web.application import web_app
from web.asgi import Receive, Scope, Send
from web.middleware import Middleware
from web.policies.decisions import RequestPolicy
from web.protocol import bounded_http, request_framing
from web.protocol import connection_places as places
from web.protocol.joined_writes import NO_LINGER
from web.server import Server

WITHIN = PATIENCE


class Gate:
    """Holds back every produce round while it is shut."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._open, self.held = asyncio.Event(), asyncio.Event()
        self._open.set()
        run = ProduceRound.run

        async def gated(produce_round: ProduceRound, waiting: Any) -> None:
            if not self._open.is_set():
                self.held.set()
            await self._open.wait()
            await run(produce_round, waiting)

        monkeypatch.setattr(ProduceRound, "run", gated)
        # A round that is held back looks like a Kafka that is silent; for so long it is not one that is away.
        monkeypatch.setattr(kafka_event_log, "PATIENCE", PATIENCE)

    def shut(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()


class Side:
    """One command side in this process, behind the real server, with a topic of its own."""

    def __init__(self, port: int, gate: Gate, server: Server, bootstrap: str, topic: str) -> None:
        self.port, self.gate, self.server = port, gate, server
        self._bootstrap, self._topic = bootstrap, topic
        self._clients: list[Client] = []

    async def connect(self) -> "Client":
        self._clients.append(Client(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self._clients[-1]

    async def close(self) -> None:
        self.gate.open()
        for client in self._clients:
            client.writer.close()
            with suppress(ConnectionError):
                await client.writer.wait_closed()

    async def stored(self) -> list[str]:
        """The users of all events in the topic."""
        return [json.loads(record.value)["userId"] for record in await read_topic(self._bootstrap, self._topic)]

    async def hold_back(self, *requests: bytes) -> "list[Client]":
        """Sends one request that waits in a produce round, then the others, which wait behind it; their clients."""
        self.gate.shut()
        clients = []
        for request in (post("first"), *requests):
            clients.append(await self.connect())
            clients[-1].writer.write(request)
            await until(lambda: in_flight() == len(clients))
            await within(self.gate.held.wait())
        return clients


@pytest.fixture
def topic(new_topic: Callable[..., str]) -> str:
    return new_topic(2)


@pytest_asyncio.fixture
async def side(real_servers: Servers, topic: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Side]:
    async with serving_side(OPEN, real_servers, topic, monkeypatch) as found:
        yield found


@asynccontextmanager
async def serving_side(
    identity: RequestPolicy, real_servers: Servers, topic: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Side]:
    # What the gate holds back is not given up, however long it takes to connect all who wait behind it.
    patience_ms = round(PATIENCE * 1000)
    settings = CommandSettings(
        kafka_bootstrap_servers=real_servers.kafka, kafka_topic=topic, publish_timeout_ms=patience_ms
    )
    gate = Gate(monkeypatch)
    async with served(web_app("command-side", identity, CommandSide(settings, SHIPPED))) as server:
        found = Side(port_of(server), gate, server, real_servers.kafka, topic)
        yield found
        await found.close()


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The user of each command that the fast handler took. Comes before `side`, which binds it."""
    users: list[str] = []
    handle = FastCommands.handle

    def noted(self: FastCommands, request: Any) -> None:
        handle(self, request)
        users.append(json.loads(request.body)["userId"])

    monkeypatch.setattr(FastCommands, "handle", noted)
    return users


REQUESTS = {
    "valid": post("a"),
    "request id": post("a", "X-Request-ID: mine"),
    "bad request id": post("a", "X-Request-ID: " + "x" * 129),
    "payload": post(body=b'{"userId":"a","eventType":"PRODUCT_VIEW","payload":{"productId":"p","n":[1,2.5]}}'),
    "media type": post("a", "Content-Type: Application/JSON; charset=utf-8"),
    "wrong media type": post("a", "Content-Type: text/plain"),
    "bad key": post("a", "Idempotency-Key: a b"),
    "invalid": post(body=b'{"userId":"","eventType":"LOGIN"}'),
    "no JSON": post(body=b"{"),
    "repeated key": post(body=b'{"userId":"a","userId":"b","eventType":"LOGIN"}'),
    "large": post(body=b" " * 70_000),
    "no body": post(body=b""),
}
VALID = ("valid", "request id", "bad request id", "payload", "media type")


@pytest.mark.parametrize("name", REQUESTS)
async def test_the_direct_way_answers_what_asgi_answers(side: Side, name: str) -> None:
    await compare_both_ways(side, name, REQUESTS[name])


async def test_with_a_key_the_direct_way_answers_what_asgi_answers(
    real_servers: Servers, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = HandMadeRegister()
    shown = f"\r\nAuthorization: Bearer {made.key()}\r\nHost: here\r\n".encode()
    async with serving_side(made.identity, real_servers, topic, monkeypatch) as side:
        for name, request in REQUESTS.items():
            await compare_both_ways(side, name, request.replace(b"\r\nHost: here\r\n", shown, 1))
        assert len(await side.stored()) == 2 * sum(name in VALID for name in REQUESTS)


async def compare_both_ways(side: Side, name: str, request: bytes) -> None:
    client = await side.connect()
    status, headers, body = await client.ask(request)
    other = await side.connect()
    other_status, other_headers, other_body = await other.ask(request.replace(DIRECT.encode(), ON_ASGI.encode(), 1))
    assert (status, list(headers)) == (other_status, list(other_headers))
    for changing in ("location", "footfall-position", "x-request-id", "date"):
        if name != "request id" or changing != "x-request-id":
            assert (headers.pop(changing, None) is None) == (other_headers.pop(changing, None) is None)
    assert headers == other_headers
    for event in (body["event"], other_body["event"]):
        if event:
            assert event.pop("eventId")
            assert event.pop("timestamp")
    assert body == other_body


async def test_what_is_too_much_is_refused_alike_both_ways(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    policies = cast("Middleware", side.server.config.app).policies
    [in_flight] = [policy for policy in policies if isinstance(policy, RequestsInFlight)]
    monkeypatch.setattr(in_flight, "_max_requests", 0)
    client = await side.connect()
    direct_, on_asgi = [await client.ask(post("a", "X-Request-ID: r", target=way)) for way in (DIRECT, ON_ASGI)]
    for _, headers, _ in (direct_, on_asgi):
        assert headers.pop("date")  # the next second may begin between the two
    assert direct_ == on_asgi
    assert (direct_[0], direct_[1]["retry-after"]) == (503, "1")


async def test_what_is_usual_goes_the_direct_way_and_nothing_else(handled: list[str], side: Side) -> None:
    client = await side.connect()
    for number, request in enumerate(
        [
            post("direct-1"),
            post("asgi", target=ON_ASGI),
            post("direct-2", "Idempotency-Key: k"),
            post("direct-2", "Idempotency-Key: k"),  # a repeat
            post("direct-3"),
        ]
    ):
        status, _, body = await client.ask(request)
        assert status == 201, (number, body)
    assert handled == ["direct-1", "direct-2", "direct-2", "direct-3"]
    assert sorted(await side.stored()) == ["asgi", "direct-1", "direct-2", "direct-3"]


async def test_a_body_that_comes_in_pieces_is_as_good(side: Side) -> None:
    client = await side.connect()
    request = post("pieces")
    for cut in (10, request.index(b"\r\n\r\n") + 2, request.index(b"\r\n\r\n") + 4, len(request) - 1):
        client.writer.write(request[:cut])
        await client.writer.drain()
        await until(lambda: any(connection._cuts.unsettled or connection.cycle for connection in connections(side)))
        assert (await client.ask(request[cut:]))[0] == 201
        client.writer.close()
        client = await side.connect()
    assert len(await side.stored()) == 4


def connections(side: Side) -> list[Any]:
    return list(side.server.server_state.connections)


async def test_what_follows_a_request_does_not_spoil_its_answer_wherever_they_were_cut(side: Side) -> None:
    """A body that begins with an empty line looks like the end of a head that was cut within its own."""
    body = b'\r\n\r\n{"userId":"cut","eventType":"LOGIN"}'
    request = post(body=body)
    end = request.index(b"\r\n\r\n") + 4
    for before in range(4):
        for after in range(6):
            client = await side.connect()
            client.writer.write(request[: end - before])
            await until(lambda: any(connection._cuts.unsettled or connection.cycle for connection in connections(side)))
            status, _, answer = await client.ask(request[end - before :] + b"\x00" * after)
            assert (before, after, status, answer["success"]) == (before, after, 201, True)
            client.writer.close()
            await client.writer.wait_closed()


async def test_pipelined_requests_are_answered_in_their_order_whichever_way_they_go(side: Side) -> None:
    side.gate.shut()
    client = await side.connect()
    client.writer.write(post("0"))
    await within(side.gate.held.wait())
    users = [str(number) for number in range(1, 12)]
    for user in users:  # ahead of the first answer
        client.writer.write(post(user, target=ON_ASGI if int(user) % 3 == 0 else DIRECT))
        await client.writer.drain()
    client.writer.write(b"".join(post(f"together-{user}") for user in users))
    side.gate.open()
    answered = [(await client.answer())[2]["event"]["userId"] for _ in range(1 + 2 * len(users))]
    assert answered == ["0", *users, *(f"together-{user}" for user in users)]
    assert sorted(await side.stored()) == sorted(answered)


async def test_who_sends_on_without_waiting_for_answers_is_not_read_any_more(side: Side) -> None:
    side.gate.shut()
    client = await side.connect()
    client.writer.write(post("0"))
    await within(side.gate.held.wait())
    many = post("more", "X: " + "x" * 4_000)
    count = 500  # 2 MB
    client.writer.write(many * count)
    [connection] = connections(side)
    await until(lambda: connection.flow.read_paused)
    assert len(connection._ahead) < 10 * bounded_http.MAX_HEAD_BYTES
    side.gate.open()
    assert (await client.answer())[2]["event"]["userId"] == "0"
    assert {(await client.answer())[0] for _ in range(count)} == {201}


@pytest.mark.parametrize("way", ["closes", "resets"])
async def test_a_client_that_leaves_takes_back_what_was_not_sent(
    side: Side, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_framing, "HALF_CLOSED", 0.0 if way == "closes" else 10 * PATIENCE)
    many = json.dumps([{"userId": "batch", "eventType": "LOGIN"}] * 100).encode()
    clients = await side.hold_back(
        post("leaves"),
        post("leaves", target=ON_ASGI),
        post(target="/events/generate/batch", body=many),
        post("keyed", "Idempotency-Key: one"),
        post("keyed-on-asgi", "Idempotency-Key: two", target=ON_ASGI),
        post("stays"),
    )
    first, *leaving, stays = clients
    for client in (first, *leaving):
        if way == "resets":
            client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        client.writer.close()
    await until(lambda: in_flight() == 2)  # who stays, and the keyed one on ASGI, which waits for its outcome
    side.gate.open()
    assert (await stays.answer())[0] == 201
    await until(lambda: in_flight() == 0)
    # What was in the round already is in the log; and what has a key is wanted by its repeats.
    assert sorted(await side.stored()) == ["first", "keyed", "keyed-on-asgi", "stays"]
    again = await side.connect()
    for key in ("one", "two"):
        user = {"one": "keyed", "two": "keyed-on-asgi"}[key]
        assert (await again.ask(post(user, f"Idempotency-Key: {key}")))[0] == 201
    assert len(await side.stored()) == 4


async def test_who_closes_its_sending_half_gets_what_it_asked_for(side: Side) -> None:
    many = json.dumps([{"userId": "batch", "eventType": "LOGIN"}] * 3).encode()
    clients = await side.hold_back(
        post("asgi", target=ON_ASGI),
        post(target="/events/generate/batch", body=many),
        post("keyed", "Idempotency-Key: one"),
        post("keyed-on-asgi", "Idempotency-Key: two", target=ON_ASGI),
    )
    for client in clients:
        client.writer.write_eof()
    await asyncio.sleep(2 * bounded_http.LOOK_INTERVAL)  # nobody ends it meanwhile
    assert in_flight() == len(clients)
    side.gate.open()
    for client in clients:
        assert (await client.answer())[0] == 201
        assert await client.is_closed()
    assert sorted(await side.stored()) == ["asgi", *["batch"] * 3, "first", "keyed", "keyed-on-asgi"]


@pytest.mark.parametrize("target", [DIRECT, ON_ASGI])
@pytest.mark.parametrize("ahead", [1, 40])
async def test_who_sends_many_and_closes_its_sending_half_gets_all_answers(side: Side, target: str, ahead: int) -> None:
    side.gate.shut()
    client = await side.connect()
    client.writer.write(post("0", target=target))
    await within(side.gate.held.wait())
    client.writer.write(b"".join(post(str(user), target=target) for user in range(1, ahead + 1)))
    client.writer.write_eof()
    side.gate.open()
    answered = [(await client.answer())[2]["event"]["userId"] for _ in range(ahead + 1)]
    assert answered == [str(user) for user in range(ahead + 1)]
    assert await client.is_closed()


async def test_a_request_that_is_cut_off_gets_no_answer_and_the_one_before_it_does(side: Side) -> None:
    client = await side.connect()
    client.writer.write(post("whole") + post("half")[:-1])
    client.writer.write_eof()
    assert (await client.answer())[2]["event"]["userId"] == "whole"
    assert await client.is_closed()
    assert await side.stored() == ["whole"]


async def test_a_fast_handler_that_raises_leaves_the_request_to_asgi(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_single, "CommandHead", LookupError)  # which no policy learned
    client = await side.connect()
    assert (await client.ask(post("a")))[0] == 201
    assert in_flight() == 0


async def test_one_connection_too_many_is_503_and_closed_while_all_are_at_work(side: Side) -> None:
    clients = await side.hold_back(*(post(f"user-{n}") for n in range(MAX_CONNECTIONS - 1)))
    late = await side.connect()
    status, headers, body = await late.answer()
    assert (status, body["success"], headers["connection"]) == (503, False, "close")
    assert await late.is_closed()
    side.gate.open()
    for client in clients:
        assert (await client.answer())[0] == 201
    assert (await (await side.connect()).ask(post("a")))[0] == 201


@pytest.mark.parametrize("target", [DIRECT, ON_ASGI])
async def test_the_connection_that_is_idle_longest_gives_way_to_a_new_one(side: Side, target: str) -> None:
    clients = [await side.connect() for _ in range(MAX_CONNECTIONS)]
    for client in reversed(clients):
        assert (await client.ask(post("a", target=target)))[0] == 201
    for longest in (-1, -2):
        assert (await (await side.connect()).ask(post("late", target=target)))[0] == 201
        assert await clients[longest].is_closed()
    for client in clients[:-2]:
        assert (await client.ask(post("again", target=target)))[0] == 201


async def test_a_connection_that_never_asked_has_a_second_before_it_gives_way(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "GRACE", 3600.0)
    silent = [await side.connect() for _ in range(MAX_CONNECTIONS)]
    late = await side.connect()
    assert (await late.answer())[0] == 503
    assert await late.is_closed()
    monkeypatch.setattr(places, "GRACE", 0.0)
    assert (await (await side.connect()).ask(post("a")))[0] == 201
    assert await silent[0].is_closed()


async def test_an_idle_connection_is_closed(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await side.connect()
    assert (await client.ask(post("a")))[0] == 201
    [connection] = connections(side)
    assert connection.timeout_keep_alive == serve.KEEP_ALIVE
    monkeypatch.setattr(connection, "timeout_keep_alive", 0.2)
    assert await client.is_closed()


async def test_who_reads_nothing_of_its_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_http, "UNREAD_TIMEOUT", 0.2)
    ended = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while not ended.is_set():
                await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
                if not connections_of(server):
                    ended.set()

    async with served(endless) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server), limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        await within(ended.wait())
        assert len(reader._buffer) < 10_000_000  # type: ignore[attr-defined]
        writer.close()


def connections_of(server: Server) -> set[Any]:
    return server.server_state.connections


async def test_a_server_that_ends_answers_first_what_it_took(side: Side) -> None:
    clients = await side.hold_back(post("second"))
    side.server.should_exit = True
    await until(lambda: not side.server.servers[0].is_serving())
    side.gate.open()
    for client in clients:
        assert (await client.answer())[0] == 201
        assert await client.is_closed()
