"""Clients that ask for much and read nothing: what waits for them is bounded, and given back."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import Footfall
from tests.processes import Process, wait_until
from tests.producing import an_event, produce, record_of, start_projector, wait_until_processed

EVENTS = 700  # of 16 KB
UNREAD = 200  # connections
MOST = 128  # MiB that they add
KEPT = 1 / 3  # at most, of what they added, a while later
LARGE_PAGE = "/events/processed?limit=1000"
WITHIN = 60.0  # seconds


@pytest.fixture(scope="module")
def footfall(new_footfall: Any) -> Iterator[Footfall]:
    instance: Footfall = new_footfall(partitions=2)
    projector = start_projector(instance)
    for first in range(0, EVENTS, 100):
        made = [an_event(f"user-{n}", {"n": n, "text": "x" * 15_900}) for n in range(first, first + 100)]
        produce(instance, [record_of(one) for one in made])
    wait_until_processed(instance, EVENTS, 120)
    projector.terminate()
    yield instance
    instance.close()


@contextmanager
def unread(side: Process, targets: list[str]) -> Iterator[list[socket.socket]]:
    """Connections that have asked, whose answers have begun, and who read nothing of them."""
    sockets = []
    try:
        for target in targets:
            sockets.append(small(side.url))
            sockets[-1].sendall(f"GET {target} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        yield sockets
    finally:
        for one in sockets:
            one.close()


def small(url: str) -> socket.socket:
    """A connection that the kernel does not read much for."""
    address = httpx.URL(url)
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
    found.settimeout(WITHIN)
    found.connect((address.host, address.port or 80))
    return found


def status_of(connection: socket.socket) -> int:
    """Waits for the answer to begin, and leaves it unread."""
    return int(connection.recv(12, socket.MSG_PEEK)[9:12])


def mebibytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 2**20


def test_what_waits_for_clients_that_read_nothing_is_bounded_and_given_back(footfall: Footfall) -> None:
    side = footfall.start("query-side")
    process = psutil.Process(side.popen.pid)
    targets = [LARGE_PAGE, "/events/feed?limit=1000", "/events/stream?since=beginning"]
    for _ in range(3):  # what is loaded once is loaded
        assert [httpx.get(side.url + target, timeout=30).status_code for target in targets[:2]] == [200, 200]
    before = mebibytes(process)
    with unread(side, [targets[n % 3] for n in range(UNREAD)]) as connections:
        most = before
        statuses = []
        for connection in connections:
            statuses.append(status_of(connection))
            most = max(most, mebibytes(process))
        assert set(statuses) <= {200, 503}
        assert statuses.count(200) > UNREAD // 3
        assert httpx.get(f"{side.url}/events/processed?limit=10", timeout=30).status_code == 200  # others are served
        most = max(most, mebibytes(process))
    assert most - before < MOST, f"{most - before:.0f} MiB"
    left = before + (most - before) * KEPT
    wait_until(lambda: mebibytes(process) < left, WITHIN, "the memory to be given back")
    wait_until(lambda: httpx.get(side.url + LARGE_PAGE, timeout=30).status_code == 200, WITHIN, "room for large pages")


def test_large_events_make_short_pages_that_lead_on(footfall: Footfall) -> None:
    side = footfall.start("query-side")
    with httpx.Client(base_url=side.url, timeout=30) as client:
        for target in (
            LARGE_PAGE,
            f"{LARGE_PAGE}&order=desc",
            "/events/feed?limit=1000",
            f"{LARGE_PAGE}&eventType=PRODUCT_VIEW",
        ):
            link: str | None = target
            numbers, sizes = [], []
            while link is not None:
                answer = client.get(link)
                assert answer.status_code == 200
                sizes.append(len(answer.content))
                numbers += [event["payload"]["n"] for event in answer.json()]
                link = answer.links["next"]["url"] if "next" in answer.links else None
            assert sorted(numbers) == list(range(EVENTS))
            assert max(sizes) < 2.2 * 2**20


def test_an_export_whose_client_takes_nothing_ends_and_others_have_its_place(footfall: Footfall) -> None:
    side = footfall.start("query-side", MAX_EXPORTS="2", EXPORT_PACE_MS="1000")
    with unread(side, ["/events/processed?format=ndjson"] * 2) as connections:
        assert [status_of(connection) for connection in connections] == [200, 200]

        target, plain = "/events/processed?format=csv", {"Accept-Encoding": "identity"}

        def export() -> int:
            with httpx.stream("GET", side.url + target, headers=plain, timeout=30) as answer:
                return sum(len(piece) for piece in answer.iter_raw()) if answer.status_code == 200 else 0

        wait_until(lambda: export() > EVENTS * 15_900, WITHIN, "a place")
    assert "export_client_too_slow" in side.log_text()
