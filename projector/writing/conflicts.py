"""Records of one event id. The first one is the event, for as long as it is kept; later ones are its duplicates.

Different events under one id: the client used one idempotency key for two commands (docs/idempotency.md).

The command side refuses the second command if it remembers the key. It may have forgotten the key, or another of its
processes may have accepted the first command; then the conflict appears here. As for any duplicate, the first event is
kept. The conflict is counted.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import UUID

import msgspec

from contracts.event import UserEvent
from contracts.record import from_value
from projector.writing.rows import UNIX_EPOCH, EventRow
from read_model.connecting.pool import Connection

A_DAY_MS = 86_400_000  # no event is too old to be kept sooner

Identity = tuple[str, UUID]  # tenant and event id

STORED = """
SELECT stored.tenant_id, stored.event_id, stored.event_json FROM {generation}.processed_events AS stored
JOIN unnest($1::text[], $2::uuid[]) AS wanted(tenant_id, event_id) USING (tenant_id, event_id)
"""
ADJUST = """
UPDATE {generation}.checkpoints AS c SET stored = c.stored - w.known, duplicates = c.duplicates + w.known
FROM unnest($1::text[], $2::int[], $3::bigint[]) AS w(topic, partition, known)
WHERE c.topic = w.topic AND c.partition = w.partition
"""
# A function of the owner's, which deletes nothing that is not too old (migration 0027).
FORGET_REPEATED = "SELECT tenant, id FROM ops.forget_repeated($1, $2, $3, $4)"


class Distinct(msgspec.Struct):
    """Rows of which some have one id. `duplicates`: by partition. `conflicts`: duplicates that differ from the first.

    `repeats`: rows that came a day later or more. The event may have been too old to be kept by then, and the repeat is
    a new one.
    """

    rows: list[EventRow]
    repeats: list[EventRow]
    duplicates: Counter[int]
    conflicts: list[EventRow]


def identity(row: EventRow) -> Identity:
    """Returns by what an event is known."""
    return row.event.tenant_id, row.event.event_id


def distinct(rows: Sequence[EventRow]) -> Distinct:
    """Returns the first row of each event, and what the others are. Pure."""
    first: dict[Identity, EventRow] = {}
    found = Distinct([], [], Counter(), [])
    for row in rows:
        kept = first.setdefault(identity(row), row)
        if kept is row:
            found.rows.append(row)
        elif row.recorded_at_ms >= kept.event.timestamp.timestamp() * 1000 + A_DAY_MS:
            found.repeats.append(row)
        else:
            found.duplicates[row.partition] += 1
            if differ(kept.event, row.event):
                found.conflicts.append(row)
    return found


def in_turns(repeats: Sequence[EventRow]) -> Iterator[list[EventRow]]:
    """Yields rows of distinct events, those of one event in their order."""
    while repeats:
        first = {identity(row): row for row in reversed(repeats)}
        yield [row for row in repeats if first[identity(row)] is row]
        repeats = [row for row in repeats if first[identity(row)] is not row]


async def forget_repeated(connection: Connection, generation: str, known: Sequence[EventRow]) -> set[Identity]:
    """Deletes stored events that were too old to be kept when these records of their ids were made.

    Whether a record repeats an event must not depend on when retention ran: a rebuild meets both at once.

    Returns:
        Which; their records are new events.
    """
    if not known:
        return set()
    found = await connection.fetch(
        FORGET_REPEATED,
        generation,
        [row.event.tenant_id for row in known],
        [row.event.event_id for row in known],
        [UNIX_EPOCH + timedelta(milliseconds=row.recorded_at_ms) for row in known],
    )
    return {(row["tenant"], row["id"]) for row in found}


def differ(first: UserEvent, repeat: UserEvent) -> bool:
    """Returns whether two events of one id describe different activities; their timestamps do not matter."""
    return (first.user_id, first.event_type, first.payload) != (repeat.user_id, repeat.event_type, repeat.payload)


async def conflicting(connection: Connection, generation: str, repeats: Sequence[EventRow]) -> list[EventRow]:
    """Returns the repeats that differ from the stored event of the same id."""
    if not repeats:
        return []
    found = await connection.fetch(
        STORED.format(generation=generation),
        [row.event.tenant_id for row in repeats],
        [row.event.event_id for row in repeats],
    )
    stored = {(row["tenant_id"], row["event_id"]): from_value(row["event_json"].encode()) for row in found}
    conflicts = []
    for row in repeats:
        first = stored.get(identity(row))
        if isinstance(first, UserEvent) and differ(first, row.event):
            conflicts.append(row)
    return conflicts


async def count_as_duplicates(connection: Connection, generation: str, known: Sequence[EventRow]) -> None:
    """Corrects the checkpoints, which counted these rows as stored."""
    if not known:
        return
    counts = Counter((row.topic, row.partition) for row in known)
    topics, partitions = zip(*counts, strict=True)
    await connection.execute(
        ADJUST.format(generation=generation), list(topics), list(partitions), list(counts.values())
    )
