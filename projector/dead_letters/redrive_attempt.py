"""A redrive attempt: applies parked letters again, each key in order, until one of its letters fails again."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import asyncpg
import msgspec

from projector.consuming.batch import parked_behind
from projector.dead_letters.parking import header_name, timestamp_ms
from projector.writing.commit import GenerationWriter
from projector.writing.failure import Cause, Diagnosis, Failure, OutsideError, cannot_be_applied, kind_of
from projector.writing.known_good_check import known_good_fails
from projector.writing.rows import EventRow, to_row
from read_model.connecting.pool import Connection

ATTEMPTS = 2  # of a letter that fails, before it is blamed


class RedriveError(Exception):
    """A run ended early; the text says what to do. The chunks before it stay committed."""


class Letter(msgspec.Struct):
    """A parked record as it was fetched (a KafkaRecord), and the cause of its parking."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    cause: Cause
    problem: str | None = None  # why its seal can never be opened


def letter_of(row: asyncpg.Record) -> Letter:
    """Converts a row of `dead_letters` to its record."""
    names = [header_name(name) for name in row["header_names"]]
    return Letter(
        row["kafka_topic"],
        row["kafka_partition"],
        row["kafka_offset"],
        timestamp_ms(row["recorded_at"]),
        row["record_key"],
        row["record_value"],
        list(zip(names, row["header_values"], strict=True)),
        row["cause"],
    )


Attempts: TypeAlias = list[tuple[Letter, Literal["stored", "duplicate"] | Diagnosis]]
# By key: the offset of the parked letter that blocks the key. None: letters have no order, so none blocks another.
Stuck: TypeAlias = Mapping[bytes, int] | None
Blocked: TypeAlias = dict[bytes, int] | None


async def attempt_letters(
    connection: Connection, writer: GenerationWriter, letters: Sequence[Letter], stuck: Stuck
) -> Attempts:
    """Applies letters of one partition in the connection's current transaction.

    It first tries all letters at once. If the database refuses that, it tries them one by one, each in a savepoint.

    Args:
        connection: a new connection, inside a transaction.
        writer: the generation's writer.
        letters: letters of one partition in offset order.
        stuck: the keys that are blocked by letters not in `letters`; None: letters have no order.

    Returns:
        Each letter with its result.

    Raises:
        RedriveError: even a known-good event cannot be applied; the caller rolls everything back.
        Exception: an error of asyncpg that is transient, or that says the chunk was too large.
    """
    try:
        async with connection.transaction():
            return await _together(connection, writer, letters, _copied(stuck))
    except Exception as error:  # noqa: BLE001 - its kind decides
        _raise_unless_suspect(error, error)
    return await _one_by_one(connection, writer, letters, _copied(stuck))


def _copied(stuck: Stuck) -> Blocked:
    return None if stuck is None else dict(stuck)


async def _together(
    connection: Connection, writer: GenerationWriter, letters: Sequence[Letter], stuck: Blocked
) -> Attempts:
    found = [(letter, _row_or_diagnosis(letter, stuck)) for letter in letters]
    first: dict[tuple[str, int], EventRow] = {}
    for _, row in found:
        if isinstance(row, EventRow):
            first.setdefault((row.event.tenant_id, row.event.event_id.int), row)
    known = {row.offset for row in await writer.apply(connection, list(first.values()))} if first else set()
    new = {row.offset for row in first.values()} - known
    return [
        (letter, row if isinstance(row, Diagnosis) else "stored" if letter.offset in new else "duplicate")
        for letter, row in found
    ]


async def _one_by_one(
    connection: Connection, writer: GenerationWriter, letters: Sequence[Letter], stuck: Blocked
) -> Attempts:
    results: Attempts = []
    for letter in letters:
        row = _row_or_diagnosis(letter, stuck)
        if isinstance(row, EventRow):
            results.append((letter, await _apply_one(connection, writer, letter, row, stuck)))
        else:
            results.append((letter, row))
    return results


async def _apply_one(
    connection: Connection, writer: GenerationWriter, letter: Letter, row: EventRow, stuck: Blocked
) -> Literal["stored", "duplicate"] | Diagnosis:
    """Applies one letter. It blames the letter only after a second failure; the connection is new for this run."""
    why: Diagnosis | None = None
    for _ in range(ATTEMPTS):
        try:
            async with connection.transaction():
                return "duplicate" if await writer.apply(connection, [row]) else "stored"
        except Exception as error:
            _raise_unless_suspect(error, error)
            others_fail = await known_good_fails(connection, writer, letter)
            if others_fail is not None:
                _raise_unless_suspect(others_fail, error)
                raise _cannot_apply("defect", error) from error
            why = cannot_be_applied(error)
    assert why is not None
    return _block_key(letter, why, stuck)


def _row_or_diagnosis(letter: Letter, stuck: Blocked) -> EventRow | Diagnosis:
    if stuck is not None and letter.key and letter.key in stuck:
        return parked_behind(stuck[letter.key])
    row = to_row(letter)
    return _block_key(letter, row, stuck) if isinstance(row, Diagnosis) else row


def _block_key(letter: Letter, why: Diagnosis, stuck: Blocked) -> Diagnosis:
    if stuck is not None and letter.key:
        stuck[letter.key] = letter.offset
    return why


def _raise_unless_suspect(found: Exception, first: Exception) -> None:
    """Raises an error unless a record may be its cause. `first`: the error that began the check."""
    kind = kind_of(found)
    if kind in (Failure.TRANSIENT, Failure.TOO_MUCH):
        raise found
    if kind is not Failure.SUSPECT:
        raise _cannot_apply("server" if kind is Failure.SERVER else "defect", first) from first


def _cannot_apply(whose: Literal["server", "defect"], error: Exception) -> RedriveError:
    name = str(error).rstrip(".") if isinstance(error, OutsideError) else type(error).__name__
    return RedriveError(
        f"{whose}: {name}: no event can be applied now, so this chunk changed nothing. "
        "Repair the read model or the code first; `footfall status` and the projector's log say more."
    )
