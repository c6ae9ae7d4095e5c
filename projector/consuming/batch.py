"""What a fetch brought, made ready to commit."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

import msgspec

from projector.dead_letters.parking import Caps, DeadLetter, Parked
from projector.liveness.stops import Stop
from projector.writing.commit import Advance, Batch
from projector.writing.conflicts import differ
from projector.writing.failure import Diagnosis
from projector.writing.fingerprint import fingerprint
from projector.writing.rows import EventRow, KafkaRecord, to_row, to_rows


class Position(msgspec.Struct, frozen=True):
    """Where an owner stands in one partition: the next offset to process, and the epoch under which it holds it."""

    topic: str
    partition: int
    next_offset: int
    epoch: int


Part = Mapping[Position, Sequence[KafkaRecord]]


def split(
    fetched: Mapping[Position, Sequence[KafkaRecord]], max_bytes: int
) -> Iterator[dict[Position, Sequence[KafkaRecord]]]:
    """Cuts a fetch into parts of at most `max_bytes` of values each (a single larger record is a part of its own).

    A later part of a partition carries the position that its earlier parts lead to, so that it applies only after them.
    """
    if sum([len(record.value or b"") for records in fetched.values() for record in records]) <= max_bytes:
        if fetched:
            yield dict(fetched)
        return
    part: dict[Position, Sequence[KafkaRecord]] = {}
    size = 0
    for start, records in fetched.items():
        position, first = start, 0
        for index, record in enumerate(records):
            length = len(record.value or b"")
            if size + length > max_bytes and (part or index > first):
                if index > first:
                    part[position] = records[first:index]
                    position = msgspec.structs.replace(position, next_offset=records[index - 1].offset + 1)
                    first = index
                yield part
                part, size = {}, 0
            size += length
        part[position] = records[first:]
    if part:
        yield part


class Assembled(msgspec.Struct, frozen=True):
    """A batch, and how things stand after it is committed.

    `parked_after`: what is then parked in each partition that gained letters. `refused`: partitions that cannot go
    beyond their position after, and why.
    """

    batch: Batch
    positions_after: list[Position]
    parked_after: dict[int, Parked]
    refused: dict[int, Stop]


NOTHING_PARKED = Parked()


def assemble(
    fetched: Mapping[Position, Sequence[KafkaRecord]],
    parked: Mapping[int, Parked],
    caps: Caps,
    culprit: Diagnosis | None = None,
) -> Assembled:
    """Decodes and validates every record; keeps the first of several records of one event. Pure.

    `fetched` holds, for each partition, non-empty records in offset order, all at or after its position. What follows a
    parked record of its key is parked behind it. `culprit`: the one record fetched is to be parked for this reason.
    """
    found = Assembled(Batch([], [], []), [], {}, {})
    for position, records in fetched.items():
        parked_here = parked.get(position.partition, NOTHING_PARKED)
        plain = culprit is None and not parked_here.first and not _discarded_among(records, parked_here)
        if not (plain and _take_all(found, position, records)):
            _take_one_by_one(found, position, records, parked_here, caps, culprit)
    rows = found.batch.rows
    # A set of whole numbers, for a UUID's own hash is Python; only when some id repeats is each row looked at.
    if len({row.event.event_id.int for row in rows}) != len(rows):
        _drop_repeats(found.batch)
    return found


def _discarded_among(records: Sequence[KafkaRecord], parked: Parked) -> bool:
    return bool(parked.discarded) and any(record.offset in parked.discarded for record in records)


def _take_all(found: Assembled, position: Position, records: Sequence[KafkaRecord]) -> bool:
    """The usual case, at a third of the cost: every record is a sound event. False, and nothing taken, if not."""
    rows = to_rows(records)
    if rows is None:
        return False
    found.batch.rows.extend(rows)
    _advance(found, position, records[-1], malformed=0)
    return True


def _take_one_by_one(
    found: Assembled,
    position: Position,
    records: Sequence[KafkaRecord],
    parked: Parked,
    caps: Caps,
    culprit: Diagnosis | None,
) -> None:
    first = parked.first
    malformed = taken = 0
    for record in records:
        if record.offset in parked.discarded:
            malformed += 1
            taken += 1
            continue
        if first and record.key in first:
            outcome: EventRow | Diagnosis = behind(first[record.key])
        else:
            outcome = culprit or to_row(record)
        if isinstance(outcome, EventRow):
            found.batch.rows.append(outcome)
        else:
            refusal = parked.refusal(record.key, caps)
            if refusal is not None:
                found.refused[position.partition] = refusal
                break
            if position.partition not in found.parked_after:
                parked = found.parked_after[position.partition] = parked.copy()
                first = parked.first
            parked.add(record.key, record.offset)
            found.batch.letters.append(DeadLetter(record, outcome))
            malformed += outcome.cause != "behind"
        taken += 1
    if taken:
        _advance(found, position, records[taken - 1], malformed)


def _drop_repeats(batch: Batch) -> None:
    """Keeps the first row of each event, and counts the others as duplicates of their partition."""
    first: dict[tuple[str, UUID], EventRow] = {}
    repeats: Counter[int] = Counter()
    for row in batch.rows:
        kept = first.setdefault((row.event.tenant_id, row.event.event_id), row)
        if kept is not row:
            repeats[row.partition] += 1
            if differ(kept.event, row.event):
                batch.conflicts.append(row)
    batch.rows[:] = first.values()
    batch.advances[:] = [
        msgspec.structs.replace(advance, duplicates=repeats[advance.partition]) for advance in batch.advances
    ]


def _advance(found: Assembled, position: Position, last: KafkaRecord, malformed: int) -> None:
    topic, partition, epoch, next_offset = position.topic, position.partition, position.epoch, last.offset + 1
    found.batch.advances.append(
        Advance(
            topic,
            partition,
            epoch,
            position.next_offset,
            next_offset,
            malformed=malformed,
            last_record=fingerprint(last),
        )
    )
    found.positions_after.append(Position(topic, partition, next_offset, epoch))


def behind(first_offset: int) -> Diagnosis:
    """Why a sound record is parked: an earlier one of its key is."""
    return Diagnosis("behind", "Behind", f"It waits for the parked record at offset {first_offset}.", first_offset)


def size_of(part: Part) -> int:
    """How many records a part has."""
    return sum(map(len, part.values()))


def cut(part: Part, size: int) -> tuple[Part, Part]:
    """The first `size` records of a part, and the rest, which may be empty.

    The rest of a partition carries the position that its beginning leads to, so it applies only after that.
    """
    if size_of(part) <= size:
        return part, {}
    left: dict[Position, Sequence[KafkaRecord]] = {}
    right: dict[Position, Sequence[KafkaRecord]] = {}
    room = size
    for position, records in part.items():
        count = min(room, len(records))
        room -= count
        if count:
            left[position] = records[:count]
        if count < len(records):
            then = position.next_offset if not count else records[count - 1].offset + 1
            right[msgspec.structs.replace(position, next_offset=then)] = records[count:]
    return left, right
