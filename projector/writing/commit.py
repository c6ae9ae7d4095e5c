"""Commits a batch in one transaction: event rows, projections, dead letters and checkpoints (decision 2).

For each of its partitions, a batch carries the checkpoint that it expects and the epoch of its owner's claim. If any
partition has moved, nothing of the batch is stored and the outcome is `Fenced`.

Most batches hold only new events, so two of three ways to write are optimistic: `_in_one_statement` for a few rows, in
one round trip, and `_by_copy` for many. Else `_skipping_stored` first asks PostgreSQL which events are new.
"""

from collections import Counter
from collections.abc import Sequence

import asyncpg
import msgspec

from contracts.types import Catalogue
from projector.dead_letters.parking import DeadLetter, park
from projector.failpoints import reached
from projector.privacy.erase import erase
from projector.privacy.marker import Marker
from projector.projections import PROJECTIONS
from projector.projections.event_batch import event_batch_of
from projector.projections.meanings import Meanings
from projector.projections.projection import Projection, arguments, ctes, statement
from projector.writing.conflicts import conflicting, count_as_duplicates, forget_repeated, identity, in_turns
from projector.writing.rows import COLUMN_TYPES, COLUMNS, EventRow, Stored, column_arrays, copy_bytes
from read_model.connecting.pool import Connection

# From about this many rows on, COPY is faster than one statement with arrays (measured in docs/performance.md).
COPY_FROM_ROWS = 100

FIRST_COLUMN = 10  # the number of the parameter with the rows' first column; the parameters of the advances precede it

EVENT_IDENTITY = "processed_events_event_id_key"  # the constraint that an already stored event violates


class Advance(msgspec.Struct, frozen=True):
    """One partition's part of a batch: its old and new offset, its epoch, and the number of skipped records."""

    topic: str
    partition: int
    epoch: int
    old_offset: int
    new_offset: int
    duplicates: int = 0  # repeats within the batch itself
    malformed: int = 0  # records parked for a reason of their own
    last_record: int | None = None  # fingerprint of the record before `new_offset`


class Batch(msgspec.Struct, frozen=True):
    """Rows of distinct events, in log order for each partition; dead letters to park; and the checkpoint advances.

    No row and no letter of a user stands behind the user's marker.
    """

    rows: list[EventRow]
    advances: list[Advance]
    letters: list[DeadLetter] = msgspec.field(default_factory=list)
    conflicts: list[EventRow] = msgspec.field(default_factory=list)  # repeats within the batch that differ
    markers: list[Marker] = msgspec.field(default_factory=list)  # of users to erase, after all else is stored
    repeats: list[EventRow] = msgspec.field(default_factory=list)  # of the same events, perhaps new (`Distinct`)


class Committed(msgspec.Struct, frozen=True):
    """The batch is stored. `stored` + `duplicates` = its rows and repeats, plus the duplicates within the batch.

    `conflicts`: duplicates that differ from the stored event of the same id. `letters_emptied`: those of erased users.
    """

    stored: int
    duplicates: int
    conflicts: int = 0
    letters_emptied: bool = False


class Fenced(msgspec.Struct, frozen=True):
    """Another owner holds a partition of the batch or moved it; nothing was stored."""


class FencedError(Exception):
    """Leaves the transaction block of a fenced batch, so that the transaction is rolled back."""


# By default PostgreSQL flushes a commit to disk before others see its rows. Rows that queries see need that. Queries do
# not see a generation that is being built, and a crash loses its rows and checkpoints together, so it need not flush.
DURABILITY = """
CASE WHEN (SELECT state FROM ops.generations WHERE name = '{generation}') <> 'active'
     THEN set_config('synchronous_commit', 'off', true) END
"""

ADVANCE = """
WITH wanted AS (
    SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                         $8::bigint[], $9::bigint[])
        AS w(topic, partition, epoch, old_offset, new_offset, duplicates, malformed, last_record, stored)
)
UPDATE {generation}.checkpoints AS c
SET next_offset = w.new_offset, stored = c.stored + w.stored, duplicates = c.duplicates + w.duplicates,
    malformed = c.malformed + w.malformed, last_record = w.last_record, updated_at = now()
FROM wanted AS w
WHERE c.topic = w.topic AND c.partition = w.partition AND c.next_offset = w.old_offset AND c.epoch = w.epoch
RETURNING c.partition, {durability}
"""

# `held` locks the checkpoints. Unless it finds every partition of the batch, neither rows nor checkpoints change.
IN_ONE_STATEMENT = """
WITH wanted AS (
    SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                         $8::bigint[], $9::bigint[])
        AS w(topic, partition, epoch, old_offset, new_offset, duplicates, malformed, last_record, stored)
), held AS (
    SELECT c.topic, c.partition FROM {generation}.checkpoints AS c
    JOIN wanted AS w ON c.topic = w.topic AND c.partition = w.partition
                    AND c.next_offset = w.old_offset AND c.epoch = w.epoch
    FOR UPDATE OF c
), allowed AS MATERIALIZED (
    SELECT (SELECT count(*) FROM held) = (SELECT count(*) FROM wanted) AS yes
), inserted AS (
    INSERT INTO {generation}.processed_events ({columns})
    SELECT rows.* FROM unnest({arrays}) AS rows WHERE (SELECT yes FROM allowed)
), advanced AS (
    UPDATE {generation}.checkpoints AS c
    SET next_offset = w.new_offset, stored = c.stored + w.stored, duplicates = c.duplicates + w.duplicates,
        malformed = c.malformed + w.malformed, last_record = w.last_record, updated_at = now()
    FROM wanted AS w
    WHERE c.topic = w.topic AND c.partition = w.partition AND (SELECT yes FROM allowed)
    RETURNING c.partition
){projections}
SELECT count(*), {durability} FROM advanced
"""

INSERT_NEW = """
INSERT INTO {generation}.processed_events ({columns}) SELECT rows.* FROM unnest({arrays}) AS rows
ON CONFLICT (tenant_id, event_id) DO NOTHING
RETURNING tenant_id, event_id
"""


def _arrays(first: int) -> str:
    """Returns the SQL of the parameters, from `$first` on, that carry rows as one array a column."""
    return ", ".join(f"${first + index}::{kind}" for index, kind in enumerate(COLUMN_TYPES))


class GenerationWriter:
    """Commits batches to one generation: the schema named `generation`."""

    ordered = True  # the events of one key are applied in the log's order

    def __init__(self, generation: str, catalogue: Catalogue, projections: Sequence[Projection] = PROJECTIONS) -> None:
        self.generation = generation
        self.meanings = Meanings(catalogue)
        self._projections = projections
        columns, after_positions = ", ".join(COLUMNS), FIRST_COLUMN + len(COLUMNS)
        parts = ctes(projections, first=after_positions, guard="(SELECT yes FROM allowed)", generation=generation)
        durability = DURABILITY.format(generation=generation)
        self._advance = ADVANCE.format(generation=generation, durability=durability)
        self._in_one = IN_ONE_STATEMENT.format(
            generation=generation,
            columns=columns,
            arrays=_arrays(FIRST_COLUMN),
            projections=f", {parts}" if parts else "",
            durability=durability,
        )
        self._insert_new = INSERT_NEW.format(generation=generation, columns=columns, arrays=_arrays(1))
        self._project = statement(projections, generation)

    async def commit(self, connection: Connection, batch: Batch) -> Committed | Fenced:
        """Stores a batch and advances its checkpoints, in one transaction.

        Returns:
            `Committed` with counts; or `Fenced`, and nothing is stored.

        Raises:
            Exception: an error of asyncpg. After a lost connection the outcome is unknown: all is stored, or nothing.
                Retrying the same batch is safe: a batch that is already stored is fenced.
        """
        await reached("before_transaction")
        outcome = await self._store(connection, batch)
        await reached("after_commit")
        return outcome

    async def _store(self, connection: Connection, batch: Batch) -> Committed | Fenced:
        if batch.letters or batch.markers or batch.repeats:
            return await self._skipping_stored(connection, batch)
        try:
            if len(batch.rows) < COPY_FROM_ROWS:
                return await self._in_one_statement(connection, batch)
            return await self._by_copy(connection, batch)
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name != EVENT_IDENTITY:
                raise
            return await self._skipping_stored(connection, batch)  # some event of the batch is already stored

    async def _in_one_statement(self, connection: Connection, batch: Batch) -> Committed | Fenced:
        advanced = await connection.fetchval(
            self._in_one,
            *_advances(batch),
            *self._columns(batch.rows),
            *arguments(self._projections, event_batch_of(batch.rows, self.meanings)),
        )
        return _all_stored(batch) if advanced == len(batch.advances) else Fenced()

    async def _by_copy(self, connection: Connection, batch: Batch) -> Committed | Fenced:
        data = copy_bytes(batch.rows, self._stored(batch.rows))
        folded = event_batch_of(batch.rows, self.meanings) if self._projections else None
        changes = [] if folded is None else arguments(self._projections, folded)
        try:
            async with connection.transaction():
                await self._advance_checkpoints(connection, batch)
                await reached("after_checkpoint")
                await connection.copy_to_table(
                    "processed_events",
                    schema_name=self.generation,
                    columns=COLUMNS,
                    source=memoryview(data),  # type: ignore[arg-type]  # bytes would be taken for a file name
                    format="binary",
                )
                await reached("after_rows")
                if self._projections:
                    await connection.execute(self._project, *changes)
                await reached("after_projections")
                await reached("before_commit")
        except FencedError:
            return Fenced()
        return _all_stored(batch)

    async def _skipping_stored(self, connection: Connection, batch: Batch) -> Committed | Fenced:
        try:
            async with connection.transaction():
                await self._advance_checkpoints(connection, batch)
                await reached("after_checkpoint")
                known = await self.apply(connection, batch.rows)
                for repeats in in_turns(batch.repeats):
                    known += await self.apply(connection, repeats)
                differing = await conflicting(connection, self.generation, known)
                await count_as_duplicates(connection, self.generation, known)
                await park(connection, self.generation, batch.letters)
                emptied = await erase(connection, self.generation, batch.markers)
                await reached("before_commit")
        except FencedError:
            return Fenced()
        all_stored = _all_stored(batch)
        stored, duplicates = all_stored.stored - len(known), all_stored.duplicates + len(known)
        return Committed(stored, duplicates, all_stored.conflicts + len(differing), emptied)

    async def apply(self, connection: Connection, rows: Sequence[EventRow]) -> list[EventRow]:
        """Stores those of the rows whose event is new, and projects them; returns the others.

        New is, too, whose stored event was too old to be kept when the record was made, whether it has gone yet or not.
        Moves no checkpoint: the caller holds the partition, in the transaction that the connection is in.

        `rows`: of distinct events.
        """
        known = await self._apply_new(connection, rows)
        too_old = await forget_repeated(connection, self.generation, known)
        if not too_old:
            return known
        await self._apply_new(connection, [row for row in known if identity(row) in too_old])
        return [row for row in known if identity(row) not in too_old]

    async def _apply_new(self, connection: Connection, rows: Sequence[EventRow]) -> list[EventRow]:
        returned = await connection.fetch(self._insert_new, *self._columns(rows))
        new = {(row["tenant_id"], row["event_id"]) for row in returned}
        fresh = [row for row in rows if identity(row) in new]
        if fresh and self._projections:
            await connection.execute(self._project, *arguments(self._projections, event_batch_of(fresh, self.meanings)))
        return [row for row in rows if identity(row) not in new]

    def _columns(self, rows: Sequence[EventRow]) -> tuple[Sequence[object], ...]:
        return column_arrays(rows, self._stored(rows))

    def _stored(self, rows: Sequence[EventRow]) -> Stored:
        return self.meanings.stored(row.event for row in rows)

    async def _advance_checkpoints(self, connection: Connection, batch: Batch) -> None:
        moved = await connection.fetch(self._advance, *_advances(batch))
        if len(moved) != len(batch.advances):
            raise FencedError


def _all_stored(batch: Batch) -> Committed:
    duplicates = sum(advance.duplicates for advance in batch.advances)
    return Committed(len(batch.rows) + len(batch.repeats), duplicates, len(batch.conflicts))


def _advances(batch: Batch) -> tuple[list[object], ...]:
    advances = batch.advances
    stored = Counter([row.partition for row in batch.rows])
    stored.update(row.partition for row in batch.repeats)
    return (
        [advance.topic for advance in advances],
        [advance.partition for advance in advances],
        [advance.epoch for advance in advances],
        [advance.old_offset for advance in advances],
        [advance.new_offset for advance in advances],
        [advance.duplicates for advance in advances],
        [advance.malformed for advance in advances],
        [advance.last_record for advance in advances],
        [stored[advance.partition] for advance in advances],
    )
