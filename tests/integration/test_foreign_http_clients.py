"""Other people's clients as they come: curl and Java that ask for HTTP/2, node's two EventSources when they are cut."""

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from footfall.local.embedded import spawn_child
from tests.conftest import Footfall
from tests.foreign_clients import INSTALLED, SOURCES, needed, output
from tests.patience import PATIENCE, patient
from tests.processes import Process, wait_until
from tests.producing import start_projector
from tests.tcp_proxy import TcpProxy, tcp_proxy

GENERATE = "/events/generate"
WITHIN = patient(60)  # seconds
COMMAND = {"userId": "user-1", "eventType": "LOGIN"}


@pytest.fixture(scope="module")
def front(shared_footfall: Footfall) -> Process:
    start_projector(shared_footfall)
    return shared_footfall.start("front", STREAM_HEARTBEAT_MS="500")


def curled(*arguments: str) -> str:
    return output("curl", "-sS", "--http2", "--max-time", "30", "-w", "%{http_code}", "-o", "/dev/null", *arguments)


def test_curl_that_asks_for_http_2_is_answered(front: Process) -> None:
    needed("curl")
    as_json = ("-H", "Content-Type: application/json")
    assert curled(front.url + GENERATE, *as_json, "-d", json.dumps(COMMAND)) == "201"
    assert curled(f"{front.url}{GENERATE}/batch", *as_json, "-d", json.dumps([COMMAND] * 900)) == "201"
    chunked = ("-H", "Transfer-Encoding: chunked")
    assert curled(front.url + GENERATE, *as_json, *chunked, "-d", json.dumps(COMMAND)) == "201"
    assert curled(front.url + GENERATE, *as_json, "-d", "") == "400"  # no JSON
    assert curled(f"{front.url}/events/processed?limit=1") == curled(f"{front.url}/health/live") == "200"


def test_javas_default_client_is_answered(front: Process) -> None:
    needed("java")
    said = output("java", str(SOURCES / "DefaultClient.java"), front.url, within=WITHIN)
    assert said.splitlines() == [
        "POST: 201 201",
        "POST in chunks: 201 201",
        "empty POST: 400 400",
        "GET: 200 200",
        "GET events: 200 200",
    ]


class Source:
    """One EventSource in node, and what it has said."""

    def __init__(self, which: str, url: str, log: Path) -> None:
        self._log = log
        node = shutil.which("node")
        assert node is not None
        self._popen = spawn_child(
            [node, str(SOURCES / "streams.mjs"), which, url],
            death_signal=signal.SIGKILL,
            cwd=INSTALLED,
            log_path=log,
        )

    def said(self, kind: str) -> list[Any]:
        lines = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["kind"] == kind]

    def users(self) -> list[str]:
        return [json.loads(line["data"])["userId"] for line in self.said("LOGIN")]

    def wait(self, kind: str, count: int) -> None:
        def has() -> bool:
            assert self._popen.poll() is None, self._log.read_text()
            return len(self.said(kind)) >= count

        wait_until(has, WITHIN, f"{count} times `{kind}`: {self._log.read_text()}")

    def close(self) -> None:
        self._popen.kill()
        self._popen.wait(PATIENCE)


@contextmanager
def cut_in_front_of(front: Process) -> Iterator[TcpProxy]:
    address = urlsplit(front.url)
    with tcp_proxy(address.hostname or "", address.port or 0) as proxy:
        yield proxy


@pytest.mark.parametrize("which", ["eventsource", "polyfill"])
def test_an_event_source_that_is_cut_before_its_first_event_misses_nothing(
    front: Process, which: str, tmp_path: Path
) -> None:
    needed("node")
    users = [f"{which}-{n}" for n in range(3)]
    with cut_in_front_of(front) as proxy:
        source = Source(which, proxy.in_front_of(front.url) + "/events/stream", tmp_path / "source.log")
        try:
            source.wait("begin", 1)
            for number, user in enumerate(users):
                proxy.cut()
                answer = httpx.post(front.url + GENERATE, json={**COMMAND, "userId": user}, timeout=PATIENCE)
                assert answer.status_code == 201
                proxy.mend()
                source.wait("LOGIN", number + 1)
            assert source.users() == users
            assert source.said("closed") == []
        finally:
            source.close()
