"""The history of the load: JSON lines with each request and its answer.

A client writes `invoke` before it sends a request, then `ok` (201, with the event of the answer), `fail` (certainly not
recorded) or `info` (the outcome is unknown). An operation without a second line, because its client was killed, is
unknown, too. An operation with an idempotency key may be sent several times; then each 201 is an `ok`.
"""

import time
from pathlib import Path
from typing import Any, Literal

import msgspec

Outcome = Literal["ok", "fail", "info"]


class Line(msgspec.Struct, omit_defaults=True):
    """One line. `at`: seconds since 1970. `event`: the event's JSON in the answer, byte for byte."""

    at: float
    op: str
    kind: Literal["invoke", "ok", "fail", "info"]
    user: str = ""
    type: str = ""
    payload: dict[str, Any] = {}
    event: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    why: str = ""


class Operation(msgspec.Struct):
    """One operation with its outcome."""

    op: str
    user: str
    type: str
    payload: dict[str, Any]
    outcome: Outcome = "info"
    event: bytes = b""
    repeats: list[bytes] = []  # events of answers to repeated requests that differ from `event`

    def answered(self, event: bytes) -> None:
        """Notes the event of a 201."""
        if not self.event:
            self.event = event
        elif event != self.event:
            self.repeats.append(event)


class Writer:
    """Appends to a history. Each line is in the file before the call returns, so a SIGKILL loses none."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._encode = msgspec.json.Encoder().encode

    def invoke(self, op: str, user: str, kind: str, payload: dict[str, Any]) -> None:
        """Writes that the command is about to be sent."""
        self._write(Line(time.time(), op, "invoke", user=user, type=kind, payload=payload))

    def end(self, op: str, outcome: Outcome, *, event: bytes = b"", why: str = "") -> None:
        """Writes the outcome of the command."""
        self._write(Line(time.time(), op, outcome, event=msgspec.Raw(event) if event else msgspec.UNSET, why=why))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, line: Line) -> None:
        self._file.write(self._encode(line) + b"\n")


class Counter:
    """Counts the outcomes in a growing history; it reads each byte once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._rest = b""
        self.acknowledged = 0
        self.unknown = 0

    def read(self) -> int:
        """Reads the new lines and returns the number of acknowledged operations so far."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            self._read += len(new)
            *lines, self._rest = (self._rest + new).split(b"\n")
            self.acknowledged += sum(b'"kind":"ok"' in line[:120] for line in lines)
            self.unknown += sum(b'"kind":"info"' in line[:120] for line in lines)
        return self.acknowledged


def read(path: Path) -> list[Operation]:
    """Returns every operation in the order of its invocation. It skips a line that a SIGKILL cut off."""
    decoder = msgspec.json.Decoder(Line)
    found: dict[str, Operation] = {}
    for text in path.read_bytes().split(b"\n"):
        try:
            line = decoder.decode(text)
        except msgspec.DecodeError:
            continue
        if line.kind == "invoke":
            found[line.op] = Operation(line.op, line.user, line.type, line.payload)
        else:
            found[line.op].outcome = line.kind
            if line.event is not msgspec.UNSET:
                found[line.op].answered(bytes(line.event))
    return list(found.values())
