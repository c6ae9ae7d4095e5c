"""The hostile corpus: bodies and heads as data, and a raw client that sends them (tests/contracts/hostile).

What goes on on one connection beyond one request is in tests/framing.py.

Each line is one case. Text stands for bytes in Latin-1; `{"repeat": text, "times": n}` for many of the same.
"""

import re
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from tests.patience import PATIENCE

CORPUS = Path(__file__).parent / "contracts" / "hostile"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
GENERATE = "/events/generate"
COMMAND = {"userId": "witness", "eventType": "LOGIN"}
ANSWERS_BEFORE = 6  # the first of them opens the connection
MOST_STEPS = 5_000  # in which one request is sent

_length = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class Repeated(msgspec.Struct, frozen=True):
    """The same text many times."""

    repeat: str
    times: int


class Case(msgspec.Struct, frozen=True):
    """What is sent, a `body` or everything (`sent`), and the status it must have."""

    name: str
    status: int
    body: list[str | Repeated] = []
    sent: list[str | Repeated] = []

    def request(self, path: str) -> bytes:
        """The bytes of the whole request."""
        if self.sent:
            return joined(self.sent)
        body = joined(self.body)
        return (
            b"POST %b HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)) + body
        )


class Answer(msgspec.Struct, frozen=True):
    """One answer as it came; `body` is decoded where there is one."""

    status: int
    head: bytes
    body: Any


def joined(parts: list[str | Repeated]) -> bytes:
    return b"".join(
        part.encode("latin-1") if isinstance(part, str) else part.repeat.encode("latin-1") * part.times
        for part in parts
    )


def corpus(name: str) -> list[Case]:
    """The cases of one file, such as `bodies`."""
    return msgspec.json.Decoder(Case).decode_lines((CORPUS / f"{name}.jsonl").read_bytes())


def connected(url: str) -> socket.socket:
    address = urlsplit(url)
    connection = socket.create_connection((address.hostname or "", address.port or 0), PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def send(connection: socket.socket, sent: bytes, step: int | None = None) -> None:
    """Sends all that the server takes, `step` bytes at a time: it may have heard enough, and its answer is there."""
    step = max(step, len(sent) // MOST_STEPS) if step else len(sent) or 1
    with suppress(OSError):
        for start in range(0, len(sent), step):
            connection.sendall(sent[start : start + step])


def asked(url: str, sent: bytes, step: int | None = None) -> Answer:
    """Sends the bytes, and reads the answer; an answer that never comes fails."""
    with connected(url) as connection:
        send(connection, sent, step)
        received = b""
        while not is_whole(received := received.removeprefix(CONTINUE), bodiless=sent.startswith(b"HEAD ")):
            chunk = connection.recv(65_536)
            assert chunk, f"closed after {received!r}"
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    return Answer(int(head.split(b" ")[1]), head, msgspec.json.decode(body) if body else None)


def is_whole(received: bytes, *, bodiless: bool) -> bool:
    head, ended, body = received.partition(b"\r\n\r\n")
    length = _length.search(head + b"\r\n")
    return bool(ended) and (bodiless or length is None or len(body) >= int(length[1]))


@contextmanager
def served_meanwhile(url: str) -> Iterator[None]:
    """Another client is answered 201 all the while: mostly well before the body is over, or as soon as before it."""
    waits: list[float] = []
    begun = threading.Event()
    over = threading.Event()

    def witness() -> None:
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            while not over.is_set() or not waits:
                began = time.monotonic()
                assert client.post(GENERATE, json=COMMAND).status_code == 201
                waits.append(time.monotonic() - began)
                if len(waits) == ANSWERS_BEFORE:
                    begun.set()
                over.wait(0.01)

    thread = threading.Thread(target=witness)
    thread.start()
    assert begun.wait(PATIENCE)
    body_began = time.monotonic()
    try:
        yield
    finally:
        over.set()
        thread.join(PATIENCE)
    before, meanwhile = waits[1:ANSWERS_BEFORE], waits[ANSWERS_BEFORE:]
    enough = max((time.monotonic() - body_began) / 4, 20 * statistics.median(before))
    assert statistics.median(meanwhile or before) <= enough
