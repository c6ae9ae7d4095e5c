"""Parses just enough of two protocols to drop exactly one answer: to a COMMIT (PostgreSQL) or to a Produce (Kafka).

PostgreSQL frontend/backend protocol 3 (https://www.postgresql.org/docs/current/protocol-message-formats.html), without
TLS; Kafka's request header (https://kafka.apache.org/protocol.html).
"""

import struct
from typing import Protocol

PRODUCE = 0  # Kafka's API key
IDLE = b"I"  # PostgreSQL's transaction status


class Wire(Protocol):
    """One connection through the proxy. Data may end anywhere in a frame."""

    failed: bool  # the dropped answer was an error: the server did not carry the request out

    def requests(self, data: bytes) -> list[tuple[bytes, bool]]:
        """Returns complete frames from the client, and for each whether its answer matters."""
        ...

    def answers(self, data: bytes) -> list[bytes]:
        """Returns complete frames from the server."""
        ...

    def lose(self, request: bytes) -> None:
        """Marks the answer to this request as one to drop."""
        ...

    def is_lost(self, answer: bytes) -> bool:
        """Whether this frame is (a part of) the answer to drop."""
        ...

    def is_last_lost(self, answer: bytes) -> bool:
        """Whether this frame ends the answer to drop."""
        ...


class PostgresWire:
    """A PostgreSQL connection. A request matters if it commits a batch.

    That is the simple query COMMIT in a transaction that copied or inserted rows, or, outside a transaction, the
    execution of a statement that inserts.
    """

    def __init__(self) -> None:
        self._from_client, self._from_server = b"", b""
        self._started = False
        self._writing: set[bytes] = set()  # names of prepared statements
        self._status = IDLE
        self._wrote = False  # in the transaction that is open
        self._losing = False
        self.failed = False

    def requests(self, data: bytes) -> list[tuple[bytes, bool]]:
        """See Wire."""
        buffer, found = self._from_client + data, []
        while frame := self._first(buffer):
            buffer = buffer[len(frame) :]
            found.append((frame, self._commits(frame)))
            self._started = True
        self._from_client = buffer
        return found

    def _first(self, buffer: bytes) -> bytes:
        """Returns the first complete frame, or nothing. The very first frame of a connection has no type."""
        head = 1 if self._started else 0
        if len(buffer) < head + 4:
            return b""
        length = head + int.from_bytes(buffer[head : head + 4], "big")
        return buffer[:length] if len(buffer) >= length else b""

    def _commits(self, frame: bytes) -> bool:
        if not self._started:
            return False
        kind, body = frame[:1], frame[5:]
        if kind == b"P":
            name, query = body.split(b"\0", 2)[:2]
            (self._writing.add if b"INSERT INTO" in query else self._writing.discard)(name)
        inserts = kind == b"B" and body.split(b"\0", 2)[1] in self._writing
        if kind == b"Q" and body.upper().startswith(b"COMMIT"):
            return self._wrote
        self._wrote = (self._wrote and self._status != IDLE) or inserts or kind == b"d"
        return inserts and self._status == IDLE

    def answers(self, data: bytes) -> list[bytes]:
        """See Wire."""
        buffer, found = self._from_server + data, []
        while len(buffer) >= 5 and len(buffer) >= (length := 1 + int.from_bytes(buffer[1:5], "big")):
            frame, buffer = buffer[:length], buffer[length:]
            if frame[:1] == b"Z":
                self._status = frame[5:6]
            found.append(frame)
        self._from_server = buffer
        return found

    def lose(self, request: bytes) -> None:
        """See Wire."""
        self._losing = bool(request)

    def is_lost(self, answer: bytes) -> bool:
        """See Wire: every frame after the request, because no other request was outstanding."""
        if self._losing and answer[:1] == b"E":
            self.failed = True
        return self._losing

    def is_last_lost(self, answer: bytes) -> bool:
        """See Wire: ReadyForQuery ends an answer."""
        return self._losing and answer[:1] == b"Z"


class KafkaWire:
    """A Kafka connection. Produce requests matter; the correlation id finds their answers."""

    def __init__(self) -> None:
        self._from_client, self._from_server = b"", b""
        self._lost: set[int] = set()
        self.failed = False

    def requests(self, data: bytes) -> list[tuple[bytes, bool]]:
        """See Wire."""
        frames, self._from_client = _sized_frames(self._from_client + data)
        return [(frame, struct.unpack_from(">h", frame, 4)[0] == PRODUCE) for frame in frames]

    def answers(self, data: bytes) -> list[bytes]:
        """See Wire."""
        frames, self._from_server = _sized_frames(self._from_server + data)
        return frames

    def lose(self, request: bytes) -> None:
        """See Wire."""
        self._lost.add(struct.unpack_from(">i", request, 8)[0])

    def is_lost(self, answer: bytes) -> bool:
        """See Wire."""
        return struct.unpack_from(">i", answer, 4)[0] in self._lost

    def is_last_lost(self, answer: bytes) -> bool:
        """See Wire: an answer is one frame."""
        return self.is_lost(answer)


def _sized_frames(buffer: bytes) -> tuple[list[bytes], bytes]:
    found = []
    while len(buffer) >= 4 and len(buffer) >= (length := 4 + int.from_bytes(buffer[:4], "big")):
        found.append(buffer[:length])
        buffer = buffer[length:]
    return found, buffer
