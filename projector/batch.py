"""What a fetch brought, made ready to commit."""

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
    rows: list[EventRow] = []
    malformed: list[MalformedRecord] = []
    advances: list[Advance] = []
    after: list[Position] = []
    seen: set[int] = set()
    for position, records in fetched.items():
        rows_before, malformed_before = len(rows), len(malformed)
        for record in records:
            row = to_row(record)
            if isinstance(row, MalformedRecord):
                malformed.append(row)
            elif (number := row.event.event_id.int) not in seen:  # UUID's own hash is Python
                seen.add(number)
                rows.append(row)
        new_rows, new_malformed = len(rows) - rows_before, len(malformed) - malformed_before
        next_offset = records[-1].offset + 1
        advances.append(
            Advance(
                position.topic,
                position.partition,
                position.epoch,
                old_offset=position.next_offset,
                new_offset=next_offset,
                duplicates=len(records) - new_rows - new_malformed,
                malformed=new_malformed,
            )
        )
        after.append(Position(position.topic, position.partition, next_offset, position.epoch))
    return Assembled(Batch(rows, advances), malformed, after)
