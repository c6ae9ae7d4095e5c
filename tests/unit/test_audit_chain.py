"""What breaks the chain of the audit log is found and named; what does not is not."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from contracts.audit_records import AuditAnchor
from operations.audit.chain import AuditRow, ChainCheck, Finding, hash_of

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LOG = b"\x01" * 32
Rows = list[AuditRow]


def row(number: int, previous: bytes, actor: str = "alice@host") -> AuditRow:
    at = NOW - timedelta(minutes=30) + timedelta(seconds=number)
    made = AuditRow(number, at, "footfall", actor, "default", "test", "", None, "done", "r", None, previous, b"")
    return msgspec.structs.replace(made, hash=hash_of(made))


def chain(count: int) -> Rows:
    rows: Rows = []
    for number in range(1, count + 1):
        rows.append(row(number, rows[-1].hash if rows else LOG))
    return rows


def anchor(of: AuditRow, log: bytes = LOG) -> AuditAnchor:
    return AuditAnchor(log.hex(), of.number, of.hash.hex(), NOW)


def findings(rows: Rows, *anchors: AuditAnchor, now: datetime = NOW) -> list[Finding]:
    check = ChainCheck(anchors)
    for each in rows:
        check.add(each)
    return check.end(now)


def chained_again(rows: Rows) -> Rows:
    """The same deeds with numbers and hashes that fit, as somebody makes them who can write past the function."""
    made: Rows = []
    for number, each in enumerate(rows, 1):
        previous = made[-1].hash if made else LOG
        fitting = msgspec.structs.replace(each, number=number, previous=previous)
        made.append(msgspec.structs.replace(fitting, hash=hash_of(fitting)))
    return made


def two_more(after: AuditRow) -> Rows:
    fourth = row(4, after.hash, "bob@host")
    return [fourth, row(5, fourth.hash, "bob@host")]


def renumbered(rows: Rows) -> Rows:
    return [msgspec.structs.replace(each, number=number) for number, each in enumerate(rows, 1)]


def changed(rows: Rows) -> Rows:
    return [*rows[:4], msgspec.structs.replace(rows[4], actor="bob@host"), *rows[5:]]


def changed_with_its_hash(rows: Rows) -> Rows:
    return [*rows[:4], row(5, rows[3].hash, "bob@host"), *rows[5:]]


def test_a_log_as_it_was_written_has_no_findings() -> None:
    rows = chain(300)
    check = ChainCheck([anchor(rows[99]), anchor(rows[299])])
    for each in rows:
        check.add(each)
    assert (check.end(NOW), check.rows, check.confirmed, check.log) == ([], 300, 300, LOG.hex())


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        (changed, ("changed", 5, 5)),
        (changed_with_its_hash, ("changed", 5, 5)),
        (lambda rows: rows[1:], ("removed", 1, 1)),
        (lambda rows: [*rows[:3], *rows[6:]], ("removed", 4, 6)),
        (lambda rows: renumbered([*rows[:3], *rows[6:]]), ("removed", 4, 6)),
        (lambda rows: renumbered([*rows[:3], row(4, rows[2].hash), *rows[3:]]), ("inserted", 4, 4)),
        (lambda rows: renumbered([*rows[:3], *two_more(rows[2]), *rows[3:]]), ("inserted", 4, 5)),
        (lambda rows: rows[:7], ("cut off", 8, 10)),
        (lambda _: [], ("removed", 1, 1)),
        # Chained again: only the anchors know, and the rows between two of them are named.
        (lambda rows: chained_again(changed(rows)), ("rewritten", 4, 10)),
        (lambda rows: chained_again([*rows[:4], *rows[5:], row(10, b"")]), ("rewritten", 4, 10)),
        (lambda rows: chained_again([*rows[:4], row(5, b"", "bob"), *rows[4:]]), ("rewritten", 4, 10)),
    ],
)
def test_what_was_done_to_a_log_is_named_first(tamper: Callable[[Rows], Rows], expected: tuple[str, int, int]) -> None:
    rows = chain(10)
    found = findings(tamper(rows), anchor(rows[2]), anchor(rows[9]))
    assert found
    assert (found[0].kind, found[0].first, found[0].last) == expected, found


def test_one_thing_that_was_done_is_one_finding() -> None:
    rows = chain(50)
    for tampered in (
        changed(rows),
        [*rows[:3], *rows[6:]],
        renumbered([*rows[:3], *rows[6:]]),
        renumbered([*rows[:3], row(4, rows[2].hash), *rows[3:]]),
    ):
        assert len(findings(tampered, anchor(rows[2]), anchor(rows[49]))) == 1, findings(tampered, anchor(rows[49]))


def test_rows_that_no_anchor_confirms_are_told_when_they_are_old() -> None:
    rows = chain(10)
    assert findings(rows, anchor(rows[3])) == []
    [found] = findings(rows, anchor(rows[3]), now=NOW + timedelta(hours=3))
    assert (found.kind, found.first, found.last) == ("unconfirmed", 5, 10)


def test_anchors_of_another_log_say_that_a_log_is_gone() -> None:
    rows = chain(3)
    [found] = findings(rows, anchor(rows[2]), anchor(row(412, b"x"), log=b"\x02" * 32))
    assert (found.kind, found.last) == ("another log", 412)
    assert "0202020202020202" in found.text
