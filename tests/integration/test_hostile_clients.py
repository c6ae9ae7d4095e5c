"""Hostile and slow clients: each is answered with its 4xx or closed, in bounded memory, while others are served."""

import socket
import threading
import time
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import Footfall
from tests.hostile import COMMAND, GENERATE, Case, asked, connected, corpus, served_meanwhile
from tests.patience import PATIENCE
from tests.processes import Process
from web.protocol.bounded_http import HEAD_TIMEOUT

BODY_TIMEOUT = 3.0  # seconds
SLOW_CLIENTS = 40  # of each kind
EARLY = 0.1  # seconds by which two clocks may differ
MAX_GROWTH = 64 * 1024 * 1024  # bytes of resident memory
ENVELOPE = {"success", "event", "errors", "error"}

BODIES, HEADS = corpus("bodies"), corpus("heads")


@pytest.fixture(scope="module")
def side(shared_footfall: Footfall) -> Process:
    started = shared_footfall.start("command-side", BODY_TIMEOUT_MS=str(int(BODY_TIMEOUT * 1000)))
    for _ in range(50):
        assert httpx.post(started.url + GENERATE, json=COMMAND).status_code == 201
    return started


class SlowClients:
    """Clients that send a byte a quarter of a second, in a thread, and when the server closed each of them."""

    def __init__(self, url: str, begun: bytes, drip: bytes) -> None:
        self._connections = [connected(url) for _ in range(SLOW_CLIENTS)]
        self._begun, self._drip = begun, drip
        self.began = time.monotonic()
        self.answers: dict[int, bytes] = {}
        self.closed: dict[int, float] = {}  # seconds after the beginning
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for connection in self._connections:
            connection.sendall(self._begun)
            connection.settimeout(0.001)  # seconds: a look, not a wait
        while len(self.closed) < len(self._connections) and time.monotonic() < self.began + PATIENCE:
            for number, connection in enumerate(self._connections):
                if number not in self.closed:
                    self._look(number, connection)
            threading.Event().wait(0.25)

    def _look(self, number: int, connection: socket.socket) -> None:
        try:
            if self._drip:
                connection.send(self._drip)
            received = connection.recv(4096)
        except TimeoutError:
            return
        except OSError:
            received = b""
        self.answers[number] = self.answers.get(number, b"") + received
        if not received:
            self.closed[number] = time.monotonic() - self.began

    def wait(self) -> None:
        self._thread.join(PATIENCE)
        for connection in self._connections:
            connection.close()


@pytest.fixture(scope="module")
def slow_heads(side: Process) -> SlowClients:
    return SlowClients(side.url, b"POST /events/generate HTTP/1.1\r\nHost: here\r\nX: ", b"a")


@pytest.fixture(scope="module")
def slow_bodies(side: Process) -> SlowClients:
    return SlowClients(side.url, b"POST /events/generate HTTP/1.1\r\nHost: here\r\nContent-Length: 60\r\n\r\n{", b" ")


@pytest.fixture(scope="module")
def slow_rests(side: Process) -> SlowClients:
    """Their request is refused at once; they go on sending its body."""
    head = b"POST /events/generate HTTP/1.1\r\nHost: here\r\nContent-Type: text/plain\r\nContent-Length: 9999\r\n\r\n"
    return SlowClients(side.url, head, b"x")


@pytest.fixture(scope="module")
def silent_ones(side: Process) -> SlowClients:
    return SlowClients(side.url, b"", b"")


@pytest.fixture(scope="module", autouse=True)
def slow_ones_all_the_while(
    slow_heads: SlowClients, slow_bodies: SlowClients, slow_rests: SlowClients, silent_ones: SlowClients
) -> None:
    """They trickle while everything else in this module happens."""


def resident(process: Process) -> int:
    return int(psutil.Process(process.popen.pid).memory_info().rss)


def envelopes(body: Any) -> list[dict[str, Any]]:
    """The answer's own, or one for each item of a batch; none where there is no body."""
    if body is None:
        return []
    found: list[dict[str, Any]] = body.get("results", [body])
    return found


def deviations(url: str, cases: list[Case]) -> list[str]:
    found = []
    for case in cases:
        answer = asked(url, case.request(GENERATE))
        if answer.status != case.status:
            found.append(f"{case.name}: {answer.status} instead of {case.status}: {answer.body}")
        elif not all(set(part) >= ENVELOPE for part in envelopes(answer.body)):
            found.append(f"{case.name}: {answer.body} is not the envelope")
        elif b"\r\nx-request-id: " not in answer.head or b"\r\ncache-control: no-store" not in answer.head:
            found.append(f"{case.name}: {answer.head!r} lacks a header")
    return found


def test_what_is_no_http_does_not_fill_the_log(side: Process) -> None:
    def lines() -> int:
        return side.log_text().count("Invalid HTTP request received.")

    began, before = time.monotonic(), lines()
    for _ in range(300):
        assert asked(side.url, b"X\r\n\r\n").status == 400
    assert lines() - before <= time.monotonic() - began + 1, "more than a line a second"


def test_the_corpus_is_large_and_its_names_are_unique() -> None:
    names = [case.name for case in (*BODIES, *HEADS)]
    assert len(names) == len(set(names)) >= 500


@pytest.mark.parametrize("cases", [BODIES, HEADS], ids=["bodies", "heads"])
def test_the_hostile_corpus_has_its_answers_while_others_are_served(side: Process, cases: list[Case]) -> None:
    before = resident(side)
    with served_meanwhile(side.url):
        assert deviations(side.url, cases) == []
    assert resident(side) - before < MAX_GROWTH
    assert "unforeseen_error" not in side.log_text()
    assert "Traceback" not in side.log_text()


def test_a_hundred_megabytes_are_neither_read_nor_kept(side: Process) -> None:
    before = resident(side)
    megabyte = b"x" * 1_048_576
    head = b"POST /events/generate HTTP/1.1\r\nHost: here\r\n"
    with served_meanwhile(side.url):
        for sent in (b"Content-Length: 104857600\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n6400000\r\n"):
            with connected(side.url) as connection:
                connection.sendall(head + sent)
                taken = 0
                try:
                    for _ in range(100):
                        taken += connection.send(megabyte)
                except OSError:  # closed before it was all sent
                    pass
    assert resident(side) - before < MAX_GROWTH


def test_a_slow_body_is_408_and_closed(slow_bodies: SlowClients) -> None:
    slow_bodies.wait()
    assert len(slow_bodies.closed) == SLOW_CLIENTS
    assert min(slow_bodies.closed.values()) > BODY_TIMEOUT - EARLY
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in slow_bodies.answers.values())


def test_what_still_trickles_after_its_answer_is_closed(slow_rests: SlowClients) -> None:
    slow_rests.wait()
    assert len(slow_rests.closed) == SLOW_CLIENTS
    assert all(answer.startswith(b"HTTP/1.1 415 ") for answer in slow_rests.answers.values())


def test_a_slow_head_is_408_and_closed(side: Process, slow_heads: SlowClients) -> None:
    slow_heads.wait()
    assert len(slow_heads.closed) == SLOW_CLIENTS
    assert min(slow_heads.closed.values()) > HEAD_TIMEOUT - EARLY
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in slow_heads.answers.values())
    assert 'http_requests_refused_total{status="408"}' in httpx.get(f"{side.url}/metrics").text


def test_who_connects_and_says_nothing_is_closed_without_an_answer(silent_ones: SlowClients) -> None:
    silent_ones.wait()
    assert len(silent_ones.closed) == SLOW_CLIENTS
    assert min(silent_ones.closed.values()) > HEAD_TIMEOUT - EARLY
    assert set(silent_ones.answers.values()) == {b""}


def test_trailers_are_no_headers(side: Process) -> None:
    """Else one could smuggle past whoever checked the headers."""
    sent = next(case for case in HEADS if case.name == "sound: trailers").request(GENERATE)
    assert b"0\r\nContent-Type: text/plain" in sent
    assert asked(side.url, sent).status == 201


def test_bytes_that_follow_a_sound_request_do_not_spoil_its_answer(side: Process) -> None:
    sound = next(case for case in HEADS if case.name == "sound: HTTP/1.0").request(GENERATE)
    answer = asked(side.url, sound.replace(b"HTTP/1.0\r\n", b"HTTP/1.1\r\nHost: here\r\n") + b"\x00\x00 no HTTP")
    assert answer.status == 201
    assert b"\r\nconnection: close" in answer.head.lower()
