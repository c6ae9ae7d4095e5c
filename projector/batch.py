"""What a fetch brought, made ready to commit."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from projector.commit import Advance, Batch
from projector.rows import EventRow, KafkaRecord, MalformedRecord, to_row


class Position(msgspec.Struct, frozen=True):
    """Where an owner stands in one partition: the next offset to process, and the epoch under which it holds it."""

    topic: str
    partition: int
    next_offset: int
    epoch: int


def split(
    fetched: Mapping[Position, Sequence[KafkaRecord]], max_bytes: int
) -> Iterator[dict[Position, Sequence[KafkaRecord]]]:
    """Cuts a fetch into parts of at most `max_bytes` of values each (a single larger record is a part of its own).

    A later part of a partition carries the position that its earlier parts lead to, so that it applies only after them.
    """
    if sum(len(record.value or b"") for records in fetched.values() for record in records) <= max_bytes:
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
    """A batch, the malformed records it skips, and the positions after it is committed."""

    batch: Batch
    malformed: list[MalformedRecord]
    positions_after: list[Position]


def assemble(fetched: Mapping[Position, Sequence[KafkaRecord]]) -> Assembled:
    """Decodes and validates every record; keeps the first of several records of one event. Pure.

    `fetched` holds, for each partition, non-empty records in offset order, all at or after its position.
    """
    decoded = {position: [to_row(record) for record in records] for position, records in fetched.items()}
    rows = [row for outcomes in decoded.values() for row in outcomes if type(row) is EventRow]
    malformed = [row for outcomes in decoded.values() for row in outcomes if type(row) is MalformedRecord]
    repeated: Counter[int] = Counter()
    # A set of whole numbers, for a UUID's own hash is Python; only when some id repeats is each row looked at.
    if len({row.event.event_id.int for row in rows}) != len(rows):
        rows, repeated = _without_repeats(rows)
    malformed_of = Counter(record.partition for record in malformed)
    advances = [
        Advance(
            position.topic,
            position.partition,
            position.epoch,
            old_offset=position.next_offset,
            new_offset=records[-1].offset + 1,
            duplicates=repeated[position.partition],
            malformed=malformed_of[position.partition],
        )
        for position, records in fetched.items()
    ]
    after = [Position(a.topic, a.partition, a.new_offset, a.epoch) for a in advances]
    return Assembled(Batch(rows, advances), malformed, after)


def _without_repeats(rows: list[EventRow]) -> tuple[list[EventRow], Counter[int]]:
    """The first row of each event, and how many were left out of each partition."""
    first: dict[int, EventRow] = {}
    repeated: Counter[int] = Counter()
    for row in rows:
        if first.setdefault(row.event.event_id.int, row) is not row:
            repeated[row.partition] += 1
    return list(first.values()), repeated
