"""The hostile corpus: bodies and heads as data, and a raw client that sends them (tests/contracts/hostile).

Each line is one case. Text stands for bytes in Latin-1; `{"repeat": text, "times": n}` for many of the same.
"""

import re
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

CORPUS = Path(__file__).parent / "contracts" / "hostile"
READ_WITHIN = 20.0  # seconds
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

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
    return socket.create_connection((address.hostname or "", address.port or 0), READ_WITHIN)


def asked(url: str, sent: bytes) -> Answer:
    """Sends all that the server takes, and reads its answer; an answer that never comes fails."""
    with connected(url) as connection:
        with suppress(OSError):  # it has heard enough: its answer is there already
            connection.sendall(sent)
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
