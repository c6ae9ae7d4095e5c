"""Ten times as many clients as are let in: the others are refused at once, those inside notice nothing."""

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from bench.commands.overload import resident_mib
from tests.conftest import Footfall
from tests.patience import PATIENCE, patient
from tests.processes import Process, wait_until

GENERATE = "/events/generate"
INSIDE = 32
BYTES = 30 * 65_000 + 10_000
SECONDS = 60.0 if os.environ.get("FOOTFALL_LONG") else 5.0
OVERLOADED = "Too many requests are in flight. Nothing was recorded; try again shortly."


@pytest.fixture(scope="module")
def side(shared_footfall: Footfall) -> Process:
    return shared_footfall.start("command-side", MAX_REQUESTS_IN_FLIGHT=str(INSIDE), MAX_BYTES_IN_FLIGHT=str(BYTES))


def load(url: str, connections: int, seconds: float, refused_wait: float = 0.25) -> dict[str, Any]:
    """What the bench's load generator measured, in a process of its own."""
    task = {
        "port": urlsplit(url).port,
        "path": GENERATE,
        "connections": connections,
        "seconds": seconds,
        "refused_wait": refused_wait,
    }
    done = subprocess.run(
        [sys.executable, "-m", "bench.clients.load", json.dumps(task)],
        capture_output=True,
        check=True,
        timeout=patient(seconds),
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_ten_times_the_clients_harm_neither_goodput_nor_latency_nor_memory(side: Process) -> None:
    """FOOTFALL_LONG=1: for 60 s. The figures proper are `make bench`'s; here is room for a busy machine."""
    peak = load(side.url, INSIDE, 3.0)
    # They try again at a tenth of the rate that this machine serves: to refuse is work, too.
    over = load(side.url, 10 * INSIDE, SECONDS, max(0.25, 9 * INSIDE / (0.1 * peak["per_second"])))
    assert (peak["errors"], over["errors"]) == (0, 0)  # nothing but 201 and 503
    assert over["refused"] > 0
    assert over["per_second"] >= 0.5 * peak["per_second"]
    assert over["p99"] <= max(1_000, 20 * peak["p99"])
    assert resident_mib(side.popen.pid) <= 256
    metrics = httpx.get(f"{side.url}/metrics").text
    assert "commands_in_flight 0.0" in metrics
    assert "command_bytes_in_flight 0.0" in metrics
    assert side.log_text().count("request_failed") <= SECONDS + 10  # one line a second, not one a request


def slow_request(length: int) -> bytes:
    return f"POST {GENERATE} HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n\r\n".encode()


def test_bodies_on_their_way_fill_the_house_and_free_it_again(side: Process) -> None:
    address = urlsplit(side.url)

    def opened(length: int) -> Any:
        connection = socket.create_connection((address.hostname or "", address.port or 0), PATIENCE)
        connection.sendall(slow_request(length))
        return connection

    def in_flight() -> str:
        return httpx.get(f"{side.url}/metrics").text

    command = {"userId": "u", "eventType": "LOGIN"}
    for length, count in ((50, INSIDE), (65_000, BYTES // 65_000)):  # too many requests; too many bytes
        waiting = [opened(length) for _ in range(count)]
        wait_until(lambda n=count: f"commands_in_flight {float(n)}" in in_flight(), 10, "the house to be full")  # type: ignore[misc]
        answer = httpx.post(side.url + GENERATE, json={**command, "payload": {"x": "y" * 16_000}})
        assert answer.status_code == 503
        assert answer.json() == {"success": False, "event": None, "errors": None, "error": OVERLOADED}
        assert answer.headers["retry-after"] == "1"
        refused_unread = opened(65_000 + count)  # its body never comes, and it is answered all the same
        assert refused_unread.recv(100).startswith(b"HTTP/1.1 503 ")
        for connection in [*waiting, refused_unread]:
            connection.close()
        wait_until(lambda: "commands_in_flight 0.0" in in_flight(), 10, "the house to be empty")
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda _: httpx.post(side.url + GENERATE, json=command).status_code, range(8))
        assert set(answers) == {201}
