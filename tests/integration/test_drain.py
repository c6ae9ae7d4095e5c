"""SIGTERM and SIGINT under load: what was promised is kept, and the process is gone within ten seconds, exit 0."""

import asyncio
import json
import signal
import socket
from collections import Counter
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import Footfall
from tests.many_events import fill
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.producing import Flow, assert_exactly_once, processed, wait_until_processed
from tests.topic_reader import records_of

CONNECTIONS = 32
MANY = 80_000  # events; about 18 MB as JSON, more than sockets hold
PLAIN = {"accept-encoding": "identity"}
CUT_SHORT = "graceful shutdown exceeded"  # what uvicorn says when it waits no longer
COMMAND = {"userId": "user-1", "eventType": "LOGIN"}

both_signals = pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT], ids=lambda name: name.name)


def assert_it_drains(process: Process) -> None:
    """After the signal was sent: exit 0, nothing was cut short, and nothing unforeseen is in the log."""
    assert process.popen.wait(PATIENCE) == 0, process.log_text()[-2000:]
    assert CUT_SHORT not in process.log_text()
    assert "Traceback" not in process.log_text()


def connect(process: Process) -> socket.socket:
    address = urlsplit(process.url)
    return socket.create_connection((address.hostname or "", address.port or 0), PATIENCE)


def refuses(process: Process) -> bool:
    try:
        connect(process).close()
    except ConnectionRefusedError:
        return True
    return False


async def post_until_refused(process: Process, enough: asyncio.Event) -> list[httpx.Response]:
    """Posts from many connections until the process is gone; all the answers there were."""
    answers: list[httpx.Response] = []

    async def one(client: httpx.AsyncClient, number: int) -> None:
        while True:
            try:
                answers.append(await client.post("/events/generate", json={**COMMAND, "userId": f"user-{number}"}))
            except httpx.TransportError:  # a connection that was idle when the draining began, or a refused one
                return
            if len(answers) > 500:
                enough.set()

    async with httpx.AsyncClient(base_url=process.url, timeout=PATIENCE) as client:
        await asyncio.gather(*(one(client, number) for number in range(CONNECTIONS)))
    return answers


@both_signals
def test_the_command_side_keeps_every_promise(footfall: Footfall, name: signal.Signals) -> None:
    side = footfall.start("command-side")

    async def load() -> list[httpx.Response]:
        enough = asyncio.Event()
        posting = asyncio.create_task(post_until_refused(side, enough))
        await enough.wait()
        side.popen.send_signal(name)
        return await posting

    answers = asyncio.run(load())
    assert_it_drains(side)
    assert Counter(answer.status_code for answer in answers) == {201: len(answers)}
    promised = {answer.json()["event"]["eventId"].encode() for answer in answers}
    stored = [dict(record.headers)["event-id"] for record in records_of(footfall.servers.kafka, footfall.topic)]
    assert len(promised) == len(answers) > 500
    assert promised <= set(stored)
    assert len(stored) == len(set(stored))


def test_the_command_side_answers_what_is_in_flight(footfall: Footfall) -> None:
    side = footfall.start("command-side")
    body = json.dumps(COMMAND).encode()
    head = (
        f"POST /events/generate HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    waiting = [connect(side) for _ in range(8)]
    for connection in waiting:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")  # it is being handled: the route asks for the body
    side.popen.terminate()
    wait_until(lambda: refuses(side), 5, "new connections to be refused")
    for connection in waiting:
        connection.sendall(body)
        answer = b""
        while chunk := connection.recv(65_536):
            answer += chunk
        connection.close()
        assert answer.startswith(b"HTTP/1.1 201 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["success"] is True
    assert_it_drains(side)
    assert len(records_of(footfall.servers.kafka, footfall.topic)) == len(waiting)


@both_signals
def test_the_query_side_finishes_a_stream_that_is_read(footfall: Footfall, name: signal.Signals) -> None:
    fill(footfall.servers.admin_url, MANY)
    side = footfall.start("query-side")
    with httpx.stream("GET", f"{side.url}/events/processed", headers=PLAIN, timeout=PATIENCE) as answer:
        chunks = answer.iter_raw()
        received = next(chunks)
        side.popen.send_signal(name)
        wait_until(lambda: refuses(side), 5, "new connections to be refused")
        received += b"".join(chunks)
    assert len(json.loads(received)) == MANY
    assert_it_drains(side)


def test_the_query_side_does_not_wait_for_a_stream_that_nobody_reads(footfall: Footfall) -> None:
    fill(footfall.servers.admin_url, MANY)
    side = footfall.start("query-side")
    with connect(side) as connection:
        connection.sendall(b"GET /events/processed HTTP/1.1\r\nHost: here\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
        assert side.terminate() == 0
    assert CUT_SHORT in side.log_text()


@both_signals
def test_the_projector_loses_and_doubles_nothing(footfall: Footfall, name: signal.Signals) -> None:
    first = footfall.start("projector")
    with Flow(footfall.servers.kafka, footfall.topic) as flow:
        wait_until_processed(footfall, 200)
        first.popen.send_signal(name)
        assert_it_drains(first)
        sofar = processed(footfall)
        footfall.start("projector")
        wait_until_processed(footfall, sofar + 200)
    wait_until_processed(footfall, flow.sent)
    assert_exactly_once(footfall)
