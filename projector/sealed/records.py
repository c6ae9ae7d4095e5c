"""A record of the sealed log as the rest of the projector meets it: with the value that was sealed."""

from collections.abc import Sequence

import msgspec

from contracts.erasure import SealedErasure
from contracts.sealed.events import Cut, cut, is_sealed
from contracts.wire.frames import MAGIC, unframed
from projector.writing.rows import KafkaRecord

BROKEN = "The record's seal fits neither its subject's key nor what it says in the clear."
MALFORMED = "The record says that it is sealed, and is not written as version 3 is."


class OpenedErasure(msgspec.Struct, frozen=True):
    """A sealed marker. `user_id`: whom it names; None: its key is destroyed, for no row of the user is left.

    `pseudonym`: the user's; None: nobody knows it any more.
    """

    erasure: SealedErasure
    user_id: str | None
    pseudonym: bytes | None


class OpenedRecord(msgspec.Struct):
    """A record (a KafkaRecord) whose value is opened. `log_record`: as the log has it, which is what dead letters keep.

    `problem`: why it cannot be opened, ever; then it has no value. `erasure`: if it is a marker; then neither.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    log_record: KafkaRecord
    problem: str | None = None
    erasure: OpenedErasure | None = None


def opened_record(
    record: KafkaRecord, value: bytes, problem: str | None = None, erasure: OpenedErasure | None = None
) -> OpenedRecord:
    """The record with another value."""
    return OpenedRecord(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        value,
        record.headers,
        as_in_the_log(record),
        problem,
        erasure,
    )


def as_in_the_log(record: KafkaRecord) -> KafkaRecord:
    """The record as the log has it."""
    return record.log_record if isinstance(record, OpenedRecord) else record


def is_broken(record: KafkaRecord) -> bool:
    """Whether the record's seal fits no key."""
    return isinstance(record, OpenedRecord) and record.problem == BROKEN


def cuts_of(records: Sequence[KafkaRecord]) -> list[Cut | None]:
    """The parts of each sealed event; None: it is none."""
    return [cut(record.value) if record.value is not None and is_sealed(record.value) else None for record in records]


def without_frames(records: Sequence[KafkaRecord]) -> Sequence[KafkaRecord]:
    """The records with their JSON for their value, where a value is framed."""
    if not any(record.value is not None and record.value.startswith(MAGIC) for record in records):
        return records
    return [opened_record(record, unframed(record.value)) if record.value else record for record in records]
