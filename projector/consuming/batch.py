"""Turns fetched records into batches that are ready to commit."""

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
    """An owner's position in one partition: the next offset to process, and the epoch of its claim."""

    topic: str
    partition: int
    next_offset: int
    epoch: int


Part = Mapping[Position, Sequence[KafkaRecord]]


def split_by_bytes(
    fetched: Mapping[Position, Sequence[KafkaRecord]], max_bytes: int
) -> Iterator[dict[Position, Sequence[KafkaRecord]]]:
    """Splits a fetch into parts of at most `max_bytes` of record values; a larger single record is a part of its own.

    Each later part of a partition starts at the position where the part before it ends, so it can be applied only after
    that part.
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
    """A batch, and the state to adopt after its commit.

    `positions_after`: the new position of each partition. `parked_after`: the parked letters of each partition that
    gained some. `refused`: the partitions that must stop at their new position, and why.
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
    park_as: Diagnosis | None = None,
) -> Assembled:
    """Decodes and validates records and makes one batch of them. Pure.

    Of several records of one event, the batch keeps the first. A record whose key has a parked record is parked behind
    that record.

    Args:
        fetched: for each position, a non-empty list of records in offset order, all at or after that position.
        parked: the parked letters of each partition.
        caps: how many letters may be parked.
        park_as: the diagnosis to park with, when `fetched` is a single record that is known to be poison.
    """
    found = Assembled(Batch([], [], []), [], {}, {})
    for position, records in fetched.items():
        parked_here = parked.get(position.partition, NOTHING_PARKED)
        usual = park_as is None and not parked_here.first and not _any_discarded(records, parked_here)
        if not (usual and _add_all(found, position, records)):
            _add_one_by_one(found, position, records, parked_here, caps, park_as)
    rows = found.batch.rows
    # The set holds integers because the hash of a UUID is slow Python code. Rows are compared only if some id repeats.
    if len({row.event.event_id.int for row in rows}) != len(rows):
        _drop_duplicates(found.batch)
    return found


def _any_discarded(records: Sequence[KafkaRecord], parked: Parked) -> bool:
    return bool(parked.discarded) and any(record.offset in parked.discarded for record in records)


def _add_all(found: Assembled, position: Position, records: Sequence[KafkaRecord]) -> bool:
    """Adds all records of a partition at once, at a third of the cost; the usual case.

    Returns False, and adds nothing, unless fast validation accepts every record.
    """
    rows = to_rows(records)
    if rows is None:
        return False
    found.batch.rows.extend(rows)
    _advance(found, position, records[-1], malformed=0)
    return True


def _add_one_by_one(
    found: Assembled,
    position: Position,
    records: Sequence[KafkaRecord],
    parked: Parked,
    caps: Caps,
    park_as: Diagnosis | None,
) -> None:
    first = parked.first
    malformed = taken = 0
    for record in records:
        if record.offset in parked.discarded:
            malformed += 1
            taken += 1
            continue
        if first and record.key in first:
            outcome: EventRow | Diagnosis = parked_behind(first[record.key])
        else:
            outcome = park_as or to_row(record)
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


def _drop_duplicates(batch: Batch) -> None:
    """Keeps the first row of each event and counts the others as duplicates of their partition."""
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


def parked_behind(first_offset: int) -> Diagnosis:
    """Returns the diagnosis of a valid record that is parked because an earlier record of its key is parked."""
    return Diagnosis("behind", "Behind", f"It waits for the parked record at offset {first_offset}.", first_offset)


def record_count(part: Part) -> int:
    """Returns the number of records in a part."""
    return sum(map(len, part.values()))


def split_at(part: Part, size: int) -> tuple[Part, Part]:
    """Splits a part into its first `size` records and the rest, which may be empty.

    The rest of a partition starts at the position where the first piece ends, so it can be applied only after it.
    """
    if record_count(part) <= size:
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
