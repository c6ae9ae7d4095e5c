"""The chain of the audit log: the hash of a row, as the migration computes it, and what breaks the chain.

Pure: it sees rows and anchors, and no server.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec

from contracts.audit_records import AuditAnchor

TIME = "%Y-%m-%d %H:%M:%S"
SEARCHED = 100  # how far a row may have been renumbered for us to know its old number
MAX_FINDINGS = 20

UNCONFIRMED_AFTER = timedelta(hours=2)  # projectors anchor the head every minute in which it changed

Kind = Literal["changed", "removed", "inserted", "cut off", "rewritten", "unconfirmed", "another log"]


class AuditRow(msgspec.Struct, frozen=True, gc=False):
    """One row of `ops.audit`."""

    number: int
    at: datetime
    role: str
    actor: str
    tenant_id: str
    action: str
    target: str
    subject: bytes | None
    outcome: str
    request_id: str
    entry_id: UUID | None
    previous: bytes
    hash: bytes


class Finding(msgspec.Struct, frozen=True):
    """Something that an append-only log cannot come to by itself. `first` to `last`: the numbers of the rows."""

    kind: Kind
    first: int
    last: int
    text: str


def hash_of(row: AuditRow, number: int | None = None) -> bytes:
    """Returns what the row's hash has to be, if its number is or was `number`."""
    fields = (
        str(row.number if number is None else number),
        row.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        *(row.role, row.actor, row.tenant_id, row.action, row.target),
        row.subject.hex() if row.subject is not None else "",
        *(row.outcome, row.request_id, "" if row.entry_id is None else str(row.entry_id)),
    )
    encoded = [field.encode() for field in fields]
    return hashlib.sha256(row.previous + b"".join(b"%d:%b," % (len(each), each) for each in encoded)).digest()


class ChainCheck:
    """Follows a log from its first row to its last, and collects what is wrong with it.

    Whoever can write rows past `ops.write_audit` can compute hashes, too: a chain that was computed again from a row on
    is found by the anchors only, and only the rows between two anchors are named.
    """

    def __init__(self, anchors: Sequence[AuditAnchor]) -> None:
        self.findings: list[Finding] = []
        self.rows = 0
        self.log = ""
        self.confirmed = 0  # the last row that an anchor confirms
        self._anchors = anchors
        self._hashes: dict[int, set[str]] = {}  # by number of the row: what its anchors say
        self._last: AuditRow | None = None
        self._seen: dict[bytes, int] = {}  # hash to number of the last SEARCHED rows
        self._shift = 0  # how many rows before this one are missing from the numbers
        self._unconfirmed: AuditRow | None = None  # the first row since the last confirmed one

    def add(self, row: AuditRow) -> None:
        """Checks the next row, in order of the numbers."""
        if self._last is None:
            self._begin(row)
        elif row.number > self._last.number + 1:
            self._removed(self._last.number + 1, row.number - 1)
        elif row.previous != self._last.hash:
            self._find_break(row, self._last)
        if hash_of(row, row.number + self._shift) != row.hash:
            self._found("changed", row.number, row.number, f"row {row.number} was changed")
        self._unconfirmed = self._unconfirmed or row
        self._check_anchor(row)
        self._seen[row.hash] = row.number
        if len(self._seen) > SEARCHED:
            del self._seen[next(iter(self._seen))]
        self._last, self.rows = row, self.rows + 1

    def end(self, now: datetime) -> list[Finding]:
        """Checks what the anchors know of rows behind the last one. Returns everything that was found."""
        if self._last is None:
            self._found("removed", 1, 1, "the log has no row, not even its first")
        last = 0 if self._last is None else self._last.number + self._shift
        beyond = max(self._hashes, default=0)
        if beyond > last:
            text = (
                f"{_rows(last + 1, beyond)} removed at the end, or a backup from before them was restored: Kafka has an"
                f" anchor of row {beyond}"
            )
            self._found("cut off", last + 1, beyond, text)
        elif self._unconfirmed is not None and now - self._unconfirmed.at > UNCONFIRMED_AFTER:
            first = self._unconfirmed.number
            text = (
                f"{_rows(first, last)} not confirmed by an anchor, the oldest since {self._unconfirmed.at:{TIME}} UTC: "
                "does a projector run, and may it write to KAFKA_AUDIT_TOPIC? Or was that topic made anew?"
            )
            self._found("unconfirmed", first, last, text)
        self._find_other_logs()
        return self.findings

    def _begin(self, row: AuditRow) -> None:
        self.log = row.previous.hex()
        if row.number > 1:
            logs = {anchor.log for anchor in self._anchors}
            self.log = logs.pop() if len(logs) == 1 else ""
            self._removed(1, row.number - 1)
        for anchor in self._anchors:
            if anchor.log == self.log:
                self._hashes.setdefault(anchor.number, set()).add(anchor.hash)

    def _find_break(self, row: AuditRow, last: AuditRow) -> None:
        """The row does not follow the one before. What its hash says of its old number tells why."""
        shift, self._shift = self._shift, self._shift_of(row)
        follows = self._seen.get(row.previous)
        if follows is not None:
            text = f"{_rows(follows + 1, last.number)} inserted: row {row.number} follows row {follows}"
            self._found("inserted", follows + 1, last.number, text)
        elif self._shift > shift:
            self._removed(row.number + shift, row.number + self._shift - 1)
        else:
            text = f"row {last.number} was changed with its hash, or row {row.number} put in: it follows another row"
            self._found("changed", last.number, last.number, text)

    def _shift_of(self, row: AuditRow) -> int:
        """By how much the number that the row's hash was made with exceeds its number; as before if unknown."""
        candidates = sorted(range(-SEARCHED, SEARCHED + 1), key=lambda shift: abs(shift - self._shift))
        return next((shift for shift in candidates if hash_of(row, row.number + shift) == row.hash), self._shift)

    def _check_anchor(self, row: AuditRow) -> None:
        number = row.number + self._shift
        hashes = self._hashes.get(number)
        if hashes == {row.hash.hex()}:
            self.confirmed, self._unconfirmed = number, None
        elif hashes is not None:
            text = (
                f"{_rows(self.confirmed + 1, number)} written again, or a backup from before them was restored: Kafka"
                f" has another hash of row {number}"
            )
            self._found("rewritten", self.confirmed + 1, number, text)

    def _find_other_logs(self) -> None:
        heads = {anchor.log: anchor for anchor in sorted(self._anchors, key=lambda anchor: anchor.number)}
        for log, head in heads.items():
            if log != self.log:
                text = (
                    f"Kafka has anchors of another log, {log[:16]}, the last of row {head.number} at {head.at:{TIME}} "
                    "UTC: this database does not have it"
                )
                self._found("another log", 1, head.number, text)

    def _removed(self, first: int, last: int) -> None:
        self._found("removed", first, last, f"{_rows(first, last)} removed")

    def _found(self, kind: Kind, first: int, last: int, text: str) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(kind, first, last, text))


def _rows(first: int, last: int) -> str:
    return f"row {first} was" if first == last else f"rows {first} to {last} were"
