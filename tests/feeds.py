"""Readers of the feed as clients write them: by pages, and as a stream of Server-Sent Events over a bare socket."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.patience import PATIENCE, patient
from tests.producing import Raw

FEED = "/events/feed"
STREAM = "/events/stream"


def page(client: httpx.Client, since: str | None, limit: int = 100) -> tuple[list[Any], str, bool]:
    """One page: its events, the cursor to go on with, and whether there is more at once."""
    answer = client.get(FEED, params={"limit": limit, **({} if since is None else {"since": since})})
    assert answer.status_code == 200, answer.text
    return answer.json(), answer.headers["footfall-cursor"], "next" in answer.links


def read_all(client: httpx.Client, since: str | None = None, limit: int = 100) -> tuple[list[Any], str]:
    """Everything since, and the cursor to go on with."""
    events: list[Any] = []
    while True:
        found, since, more = page(client, since, limit)
        events += found
        if not more:
            return events, since


@dataclass
class Received:
    """What a stream said, as an EventSource understands it: events that have data, and the last event id."""

    events: list[tuple[str, str]] = field(default_factory=list)  # kind, data
    last_id: str = ""
    begun: list[str] = field(default_factory=list)  # the cursor of each `begin`
    comments: list[str] = field(default_factory=list)

    def ids(self) -> list[str]:
        """The ids of the activity events."""
        return [json.loads(data)["eventId"] for kind, data in self.events if kind != "end"]

    def ends(self) -> list[str]:
        """Why it was ended by the server."""
        return [json.loads(data)["reason"] for kind, data in self.events if kind == "end"]

    def take(self, block: str) -> None:
        """One block between empty lines (HTML standard, 9.2.6)."""
        kind, data = "message", None
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not name:
                self.comments.append(value)
            elif name == "id":
                self.last_id = value
            elif name == "event":
                kind = value
            elif name == "data":
                data = value
        if kind == "begin":
            self.begun.append(json.loads(data or "")["cursor"])
        elif data is not None:
            self.events.append((kind, data))


class Stream:
    """One client of the stream. It reads only when it is told to."""

    def __init__(self, url: str, told: Received | None = None, timeout: float = PATIENCE, **parameters: Any) -> None:
        self.told = told or Received()
        self.ended = False
        self._rest = b""
        parts = urlsplit(url)
        query = str(httpx.QueryParams(parameters))
        last = f"Last-Event-ID: {self.told.last_id}\r\n" if self.told.last_id else ""
        assert parts.hostname is not None
        self._socket = socket.socket()
        self._timeout = timeout
        self._socket.settimeout(timeout)
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536
        )  # what is not read soon holds up the server
        self._socket.connect((parts.hostname, parts.port or 80))
        self._socket.sendall(f"GET {STREAM}?{query} HTTP/1.1\r\nHost: {parts.netloc}\r\n{last}\r\n".encode())
        self.head = self._until(b"\r\n\r\n").decode()
        self.status = int(self.head.split(" ", 2)[1])

    def read_until(self, enough: Callable[[Received], bool], within: float = 40.0) -> Received:
        """Reads until what was told is enough, or the server ends the stream; not for ever on heartbeats."""
        deadline = time.monotonic() + patient(within)
        while not self.ended and not enough(self.told):
            assert time.monotonic() < deadline, f"told {len(self.told.events)} events: not enough, and time is up"
            block = self._chunked_until(b"\n\n")
            if block:
                self.told.take(block.decode())
        return self.told

    def take_a_little(self, size: int = 65_536) -> None:
        """Takes in what has arrived, up to so many bytes, without looking at it."""
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            self._rest += self._socket.recv(size)
        self._socket.settimeout(self._timeout)

    def close(self) -> None:
        self._socket.close()

    def _until(self, end: bytes) -> bytes:
        while end not in self._rest:
            self._rest += self._receive()
        found, _, self._rest = self._rest.partition(end)
        return found

    def _chunked_until(self, end: bytes) -> bytes:
        """Up to `end` of the body, which comes in chunks (RFC 9112, 7.1)."""
        while end not in self._body:
            size = int(self._until(b"\r\n"), 16)
            while len(self._rest) < size + 2:
                self._rest += self._receive()
            self._body, self._rest = self._body + self._rest[:size], self._rest[size + 2 :]
            if size == 0:
                self.ended = True
                return b""
        found, _, self._body = self._body.partition(end)
        return found

    _body = b""

    def _receive(self) -> bytes:
        received = self._socket.recv(65_536)
        if not received:
            raise ConnectionResetError("the server closed the connection in the middle")
        return received


@contextmanager
def stream(url: str, told: Received | None = None, **parameters: Any) -> Iterator[Stream]:
    """A stream for the body; `told` by an earlier one is gone on with."""
    client = Stream(url, told, **parameters)
    try:
        yield client
    finally:
        client.close()


def ids(events: list[Any]) -> list[str]:
    return [event["eventId"] for event in events]


def id_of(record: Raw) -> str:
    assert record.value is not None
    return str(json.loads(record.value)["eventId"])


def wait_until_past(client: httpx.Client, positions: list[tuple[int, int]]) -> None:
    """Parked or not: by the refusals."""
    for partition, offset in positions:
        answer = client.get(f"/events/feed?since=now&position={partition}-{offset}", headers={"prefer": "wait=30"})
        assert answer.status_code in (200, 409), answer.text
