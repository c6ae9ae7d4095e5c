"""Limits in real processes: one client cannot hold all that others need, nor ask for more than its rate and quota."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.conftest import Footfall
from tests.drivers.token_issuer import authorization, keys_served
from tests.patience import PATIENCE
from tests.processes import Process, wait_until

BODY = b'{"userId":"user-1","eventType":"LOGIN"}'
STREAM = "GET /events/stream HTTP/1.1"
NOT_YET = "GET /users/user-1/activity?position=0-99999999 HTTP/1.1"
STATUS = "GET /events/01980000-0000-7000-8000-000000000007/status?position=0-99999999 HTTP/1.1"
EXPORT = "GET /events/processed?format=ndjson HTTP/1.1"


@pytest.fixture(scope="module")
def issuer() -> Iterator[dict[str, Any]]:
    with keys_served() as settings:
        yield settings


@pytest.fixture(scope="module")
def reading(shared_footfall: Footfall, issuer: dict[str, Any]) -> Process:
    """One principal may hold 2 of its streams, and 10 of its reads that wait."""
    return shared_footfall.start("query-side", MAX_STREAMS="200", PRINCIPAL_SHARE_PERCENT="1", **issuer)


class Asking:
    """Connections that are open until the test has ended."""

    def __init__(self, process: Process, stack: ExitStack) -> None:
        address = urlsplit(process.url)
        self._address = (address.hostname or "", address.port or 0)
        self._stack = stack

    def send(self, line: str, *headers: str, body: bytes = b"") -> socket.socket:
        """Asks, and does not wait for the answer."""
        connection = self._stack.enter_context(socket.create_connection(self._address, PATIENCE))
        length = [f"Content-Length: {len(body)}", "Content-Type: application/json"] if body else []
        connection.sendall("\r\n".join([line, "Host: here", *headers, *length, "", ""]).encode() + body)
        return connection

    def answer(self, line: str, *headers: str, body: bytes = b"") -> tuple[int, dict[str, str], Any]:
        with self.send(line, *headers, body=body) as connection, connection.makefile("rb") as lines:
            status = int(lines.readline().split()[1])
            found = dict(text.decode().rstrip().split(": ", 1) for text in iter(lines.readline, b"\r\n"))
            return status, found, json.loads(lines.read(int(found["content-length"])))


@pytest.fixture
def asking(reading: Process) -> Iterator[Asking]:
    with ExitStack() as stack:
        yield Asking(reading, stack)


def begins(connection: socket.socket) -> bytes:
    """The status line of an answer that goes on."""
    return connection.recv(12)


def test_one_client_holds_its_share_of_the_streams_and_others_still_get_one(asking: Asking) -> None:
    alice, bob = authorization("alice"), authorization("bob")
    mine = [asking.send(STREAM, alice) for _ in range(2)]
    assert [begins(one) for one in mine] == [b"HTTP/1.1 200"] * 2
    status, headers, body = asking.answer(STREAM, alice)
    assert (status, headers["retry-after"]) == (429, "1")
    assert body["error"] == "Too many streams at once: 2 are the share of one client. Try again when one has ended."
    assert begins(asking.send(STREAM, bob)) == b"HTTP/1.1 200"
    mine[0].close()

    def there_is_room_again() -> bool:
        connection = asking.send(STREAM, alice)
        return begins(connection) == b"HTTP/1.1 200"

    wait_until(there_is_room_again, 10, "a stream of a client that closed another")


@pytest.mark.parametrize("since", ["2026-01-01", "beginning"])
def test_streams_that_begin_at_the_same_time_are_as_many_as_there_are_places(
    shared_footfall: Footfall, since: str
) -> None:
    """Each finds its start in the database first, and holds its place meanwhile."""
    process = shared_footfall.start("query-side", MAX_STREAMS="3")
    with ExitStack() as stack:
        asking = Asking(process, stack)
        opened = [asking.send(f"GET /events/stream?since={since} HTTP/1.1") for _ in range(40)]
        told = [begins(connection) for connection in opened]
        assert sorted({*told}) == [b"HTTP/1.1 200", b"HTTP/1.1 503"]
        assert told.count(b"HTTP/1.1 200") == 3


def test_exports_beyond_the_bound_are_refused_while_others_are_written_into_the_audit_log(
    shared_footfall: Footfall,
) -> None:
    process = shared_footfall.start("query-side", MAX_EXPORTS="2")
    with ExitStack() as stack:
        asking = Asking(process, stack)
        with held_back(shared_footfall):
            begun = [asking.send(EXPORT) for _ in range(2)]
            status, headers, body = asking.answer(EXPORT)
            assert (status, headers["retry-after"]) == (503, "5")
            assert body["error"] == "Too many answers of all events are being streamed; try again shortly."
        assert [begins(connection) for connection in begun] == [b"HTTP/1.1 200"] * 2


@contextmanager
def held_back(footfall: Footfall) -> Iterator[None]:
    """Nothing can be written into the audit log during the body."""
    with asyncio.Runner() as runner, ExitStack() as stack:
        connection = runner.run(asyncpg.connect(footfall.servers.admin_url))
        stack.callback(lambda: runner.run(connection.close()))
        writing = "SELECT ops.write_audit('a test', '', 'export', '', NULL, 'done', '', NULL)"
        runner.run(connection.execute(f"BEGIN; {writing}"))  # the next one waits until this transaction has ended
        yield


@pytest.mark.parametrize(("held", "asked"), [(NOT_YET, NOT_YET), (STATUS, NOT_YET), (NOT_YET, STATUS)])
def test_one_client_holds_its_share_of_the_reads_that_wait(asking: Asking, held: str, asked: str) -> None:
    name = f"{len(held)}-{len(asked)}"  # what others hold lasts as long as they asked for
    alice, bob, wait = authorization(f"alice-{name}"), authorization(f"bob-{name}"), "Prefer: wait=30"
    for _ in range(10):
        asking.send(held, alice, wait)

    def is_full() -> bool:
        connection = asking.send(asked, alice, wait)
        connection.settimeout(0.2)
        try:
            return begins(connection) == b"HTTP/1.1 429"
        except TimeoutError:
            return False

    wait_until(is_full, 10, "the share to be held")
    others = asking.send(asked, bob, wait)
    others.settimeout(0.2)
    with pytest.raises(TimeoutError):
        begins(others)  # it waits for its position, as it asked
    assert asking.answer("GET /users/user-1/activity HTTP/1.1", alice)[0] in (200, 404)  # without a wait


def test_a_rate_and_a_quota_hold_at_a_real_command_side(shared_footfall: Footfall, issuer: dict[str, Any]) -> None:
    process = shared_footfall.start(
        "command-side", LIMIT_SUBJECT="6", LIMIT_WINDOW_MS="86400000", QUOTA_EVENTS="8", **issuer
    )
    with ExitStack() as stack:
        asking = Asking(process, stack)
        ways = ("POST /events/generate HTTP/1.1", "POST /events/generate? HTTP/1.1")

        def posts(subject: str, number: int, tenant: str = "default") -> list[tuple[int, Any]]:
            header = authorization(subject, tenant=tenant)
            answers = [asking.answer(ways[each % 2], header, body=BODY) for each in range(number)]
            return [(status, body["error"]) for status, _, body in answers]

        limited = (429, "Too many requests: the limit of this subject. Nothing was done; try again later.")
        used_up = (429, "The tenant has stored its 8 events of this day (UTC). Nothing was recorded.")
        assert posts("alice", 8) == [(201, None)] * 6 + [limited] * 2
        assert posts("bob", 4) == [(201, None)] * 2 + [used_up] * 2
        assert posts("carol", 2, tenant="acme") == [(201, None)] * 2


def test_whoever_guesses_at_credentials_uses_up_the_limit_of_its_address(
    shared_footfall: Footfall, issuer: dict[str, Any]
) -> None:
    process = shared_footfall.start("command-side", LIMIT_ADDRESS="6", LIMIT_WINDOW_MS="86400000", **issuer)
    with ExitStack() as stack:
        asking = Asking(process, stack)
        guess = "Authorization: Bearer a.b.c"
        statuses = [asking.answer("POST /events/generate HTTP/1.1", guess, body=BODY)[0] for _ in range(8)]
    assert set(statuses) == {401, 429}
    assert statuses == sorted(statuses)
