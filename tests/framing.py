"""Conversations as data (tests/contracts/hostile/framing.jsonl), and a raw client that holds them.

A conversation is what one connection says and hears in turns, each answer as its status and the request id that it
was given (`201 a`; no id where the server made one), and how it ends: `open` for more, `closed`, or `refused 400`:
closed, whether the refusal could still be told or an earlier answer was the last word.
"""

import re
import socket
from collections.abc import Iterator
from typing import Literal

import msgspec

from tests.hostile import CORPUS, Repeated, asked, connected, joined, send

AFTER_ID = "after"
AFTER = (
    b"POST /events/generate HTTP/1.1\r\nHost: here\r\nX-Request-ID: %b\r\nContent-Length: 34\r\n\r\n"
    % AFTER_ID.encode()
    + b'{"userId":"u","eventType":"LOGIN"}'
)
PROBE = b"GET /health/live HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"

_length = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_given_id = re.compile(rb"\r\nx-request-id: ([a-z0-9]{1,9})\r\n")  # the server's own are longer


class Turn(msgspec.Struct, frozen=True):
    """What is sent, and the answers that must come before the next turn."""

    sent: list[str | Repeated]
    answers: list[str]


class Conversation(msgspec.Struct, frozen=True):
    """One connection from its beginning to its end."""

    name: str
    turns: list[Turn]
    end: Literal["open", "closed", "refused 400", "refused 414", "refused 431"]


def conversations() -> list[Conversation]:
    """All of them."""
    return msgspec.json.Decoder(Conversation).decode_lines((CORPUS / "framing.jsonl").read_bytes())


class Heard:
    """The answers on one connection, one at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""

    def next(self, *, bodiless: bool = False) -> str | None:
        """Status and given id of the next answer; None once the connection is closed. Half an answer fails."""
        while b"\r\n\r\n" not in self._received:
            if not self._more():
                assert not self._received, f"closed within {self._received!r}"
                return None
        head, _, rest = self._received.partition(b"\r\n\r\n")
        length = 0 if bodiless else self._length(head)
        while len(rest) < length:
            assert self._more(), f"closed within the body after {head!r}"
            rest = self._received[len(head) + 4 :]
        self._received = rest[length:]
        given = _given_id.search(head + b"\r\n")
        return " ".join([head.split(b" ")[1].decode(), *([given[1].decode()] if given else [])])

    def final(self, *, bodiless: bool = False) -> str | None:
        """As `next`, without a `100` before it: a server may send it though the body is there."""
        answer = self.next(bodiless=bodiless)
        return self.next(bodiless=bodiless) if answer == "100" else answer

    def _length(self, head: bytes) -> int:
        found = _length.search(head + b"\r\n")
        return int(found[1]) if found else 0  # 100 has none

    def _more(self) -> bool:
        try:
            chunk = self._connection.recv(65_536)
        except ConnectionResetError:  # closed while we were sending still
            chunk = b""
        self._received += chunk
        return bool(chunk)


def deviation(url: str, conversation: Conversation, step: int | None = None) -> str | None:
    """Holds it, `step` bytes at a time or each turn at once; what came otherwise than it must, in words."""
    with connected(url) as connection:
        heard = Heard(connection)
        for turn in conversation.turns:
            sent = joined(turn.sent)
            send(connection, sent, step)
            bodiless = sent.startswith(b"HEAD ")
            answers = [heard.final(bodiless=bodiless) if answer != "100" else heard.next() for answer in turn.answers]
            if answers != turn.answers:
                return f"{conversation.name}: {answers} instead of {turn.answers}"
            if not answers:
                has_read_all(url)
        return wrong_end(connection, heard, conversation)


def has_read_all(url: str) -> None:
    """Returns once the server's one loop has gone round, so that it has read what was sent before."""
    assert asked(url, PROBE).status == 200


def cuts_in_two(conversation: Conversation) -> Iterator[Conversation]:
    """The same conversation of one turn, its bytes in two parts, cut at every place."""
    [turn] = conversation.turns
    sent = joined(turn.sent).decode("latin-1")
    for at in range(1, len(sent)):
        turns = [Turn([sent[:at]], []), Turn([sent[at:]], turn.answers)]
        yield Conversation(f"{conversation.name}, cut at {at}", turns, conversation.end)


def wrong_end(connection: socket.socket, heard: Heard, conversation: Conversation) -> str | None:
    """An open connection takes one more command, which is in step; a closed one says nothing more."""
    end = conversation.end
    if end == "open":
        send(connection, AFTER)
    last = heard.next()
    ends: list[str | None] = [f"201 {AFTER_ID}"] if end == "open" else [None]
    if end.startswith("refused "):
        ends.append(end.removeprefix("refused "))
    if last not in ends:
        return f"{conversation.name}: {last} at its end, which must be {end}"
    if end != "open" and last is not None and heard.next() is not None:
        return f"{conversation.name}: more after its end"
    return None
