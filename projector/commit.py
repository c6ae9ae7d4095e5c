"""One batch, one transaction: rows and checkpoints together, or neither (docs/decisions/0002).

A batch carries, for each of its partitions, the checkpoint it expects to find and the epoch under which its owner holds
the partition. If any partition has moved, nothing of the batch is stored and the outcome is `Fenced`.
"""

from collections import Counter
from collections.abc import Sequence

import asyncpg
import msgspec
from asyncpg.pool import PoolConnectionProxy

from projector.rows import COLUMNS, EventRow, column_arrays, copy_bytes
from read_model.tables import GENERATION

# From about this many rows COPY is quicker than one statement with arrays (measured: docs/performance.md).
COPY_FROM_ROWS = 100


class Advance(msgspec.Struct, frozen=True):
    """One partition's part in a batch: from which offset to which, under which epoch, and what was skipped."""

    topic: str
    partition: int
    epoch: int
    old_offset: int
    new_offset: int
    duplicates: int = 0  # seen within the batch itself
    malformed: int = 0


class Batch(msgspec.Struct, frozen=True):
    """Rows with distinct event ids, in log order for each partition, and the advances that go with them."""

    rows: list[EventRow]
    advances: list[Advance]


class Committed(msgspec.Struct, frozen=True):
    """The batch is durable. `stored` + `duplicates` = its rows, plus duplicates within the batch."""

    stored: int
    duplicates: int


class Fenced(msgspec.Struct, frozen=True):
    """Another owner holds or moved a partition of the batch; nothing was changed."""


Connection = PoolConnectionProxy | asyncpg.Connection

ADVANCE = f"""
WITH wanted AS (
    SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                         $8::bigint[])
        AS w(topic, partition, epoch, old_offset, new_offset, stored, duplicates, malformed)
)
UPDATE {GENERATION}.checkpoints AS c
SET next_offset = w.new_offset, stored = c.stored + w.stored, duplicates = c.duplicates + w.duplicates,
    malformed = c.malformed + w.malformed, updated_at = now()
FROM wanted AS w
WHERE c.topic = w.topic AND c.partition = w.partition AND c.next_offset = w.old_offset AND c.epoch = w.epoch
RETURNING c.partition
"""

# All in one statement, so that a small batch costs one round trip. `held` locks the checkpoints; unless it holds every
# partition of the batch, neither rows nor checkpoints change.
INSERT_AND_ADVANCE = f"""
WITH wanted AS (
    SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
        AS w(topic, partition, epoch, old_offset, new_offset, duplicates, malformed)
), held AS (
    SELECT c.topic, c.partition FROM {GENERATION}.checkpoints AS c
    JOIN wanted AS w ON c.topic = w.topic AND c.partition = w.partition
                    AND c.next_offset = w.old_offset AND c.epoch = w.epoch
    FOR UPDATE OF c
), allowed AS (
    SELECT (SELECT count(*) FROM held) = (SELECT count(*) FROM wanted) AS yes
), inserted AS (
    INSERT INTO {GENERATION}.processed_events ({", ".join(COLUMNS)})
    SELECT rows.* FROM unnest($8::uuid[], $9::text[]::timestamptz[], $10::text[]::timestamptz[], $11::int[],
                              $12::bigint[], $13::text[], $14::text[], $15::text[], $16::jsonb[], $17::text[]) AS rows
    WHERE (SELECT yes FROM allowed)
    ON CONFLICT (event_id) DO NOTHING
    RETURNING event_id, kafka_topic, kafka_partition
), counted AS (
    SELECT w.topic, w.partition, w.new_offset, w.malformed,
           (SELECT count(*) FROM inserted AS i WHERE i.kafka_topic = w.topic AND i.kafka_partition = w.partition)
               AS stored,
           (SELECT count(*) FROM unnest($14::text[], $11::int[]) AS r(topic, partition)
            WHERE r.topic = w.topic AND r.partition = w.partition) AS rows,
           w.duplicates
    FROM wanted AS w
), advanced AS (
    UPDATE {GENERATION}.checkpoints AS c
    SET next_offset = n.new_offset, stored = c.stored + n.stored, malformed = c.malformed + n.malformed,
        duplicates = c.duplicates + n.duplicates + n.rows - n.stored, updated_at = now()
    FROM counted AS n
    WHERE c.topic = n.topic AND c.partition = n.partition AND (SELECT yes FROM allowed)
    RETURNING c.partition
)
SELECT (SELECT count(*) FROM advanced) AS advanced, (SELECT count(*) FROM inserted) AS stored
"""


async def commit_batch(connection: Connection, batch: Batch) -> Committed | Fenced:
    """Stores the batch and moves its checkpoints. Raises what asyncpg raises; then nothing, or all of it, is stored.

    After a lost connection the outcome is unknown: read the checkpoints again to learn it.
    """
    if len(batch.rows) < COPY_FROM_ROWS:
        return await _insert(connection, batch)
    try:
        return await _copy(connection, batch)
    except asyncpg.UniqueViolationError:
        # Some event of the batch is stored already: COPY cannot skip rows, INSERT .. ON CONFLICT can.
        return await _insert(connection, batch)


async def _copy(connection: Connection, batch: Batch) -> Committed | Fenced:
    stored = Counter((row.topic, row.partition) for row in batch.rows)
    data = copy_bytes(batch.rows)
    try:
        async with connection.transaction():
            moved = await connection.fetch(ADVANCE, *_advance_arrays(batch.advances, stored))
            if len(moved) != len(batch.advances):
                raise _RolledBackError
            await connection.copy_to_table(
                "processed_events",
                schema_name=GENERATION,
                columns=COLUMNS,
                source=memoryview(data),  # type: ignore[arg-type]  # bytes would be taken for a file name
                format="binary",
            )
    except _RolledBackError:
        return Fenced()
    return Committed(len(batch.rows), sum(advance.duplicates for advance in batch.advances))


class _RolledBackError(Exception):
    """Leaves the transaction block of a fenced batch, so that its partial advance is undone."""


async def _insert(connection: Connection, batch: Batch) -> Committed | Fenced:
    advances = batch.advances
    result = await connection.fetchrow(
        INSERT_AND_ADVANCE,
        *_position_arrays(advances),
        [advance.duplicates for advance in advances],
        [advance.malformed for advance in advances],
        *column_arrays(batch.rows),
    )
    assert result is not None
    if result["advanced"] != len(advances):
        return Fenced()
    duplicates = sum(advance.duplicates for advance in advances) + len(batch.rows) - result["stored"]
    return Committed(result["stored"], duplicates)


def _advance_arrays(advances: Sequence[Advance], stored: Counter[tuple[str, int]]) -> tuple[list[object], ...]:
    return (
        *_position_arrays(advances),
        [stored[advance.topic, advance.partition] for advance in advances],
        [advance.duplicates for advance in advances],
        [advance.malformed for advance in advances],
    )


def _position_arrays(advances: Sequence[Advance]) -> tuple[list[object], ...]:
    return (
        [advance.topic for advance in advances],
        [advance.partition for advance in advances],
        [advance.epoch for advance in advances],
        [advance.old_offset for advance in advances],
        [advance.new_offset for advance in advances],
    )
