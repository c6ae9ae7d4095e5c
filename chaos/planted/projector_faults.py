"""Planted faults of the projector: small patches of what runs, each of which the checker must catch."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import msgspec

from chaos.planted.patching import replace
from projector.consuming import batch as _batch
from projector.consuming.ownership import Ownership
from projector.dead_letters.parking import park
from projector.writing import apply as _apply
from projector.writing import commit as _commit
from projector.writing.apply import Applier, Done
from projector.writing.commit import Committed, Fenced, GenerationWriter
from projector.writing.failure import Diagnosis

# The patches replace private code, which has no public types; `replace` fails if the code is no longer there.
apply: Any = _apply
applier: Any = Applier
batch: Any = _batch
commit: Any = _commit

FENCE = "AND c.next_offset = w.old_offset AND c.epoch = w.epoch"


def checkpoint_before_rows() -> None:
    """The checkpoint is committed in a separate transaction, before the rows."""

    async def store(self: Any, connection: Any, todo: Any) -> Committed | Fenced:
        try:
            async with connection.transaction():
                await self._advance_checkpoints(connection, todo)
        except commit._FencedError:
            return Fenced()
        await asyncio.sleep(0.3)
        async with connection.transaction():
            known = await self.apply(connection, todo.rows)
            await self._adjust_counts(connection, known)
            await park(connection, self.generation, todo.letters)
        return Committed(len(todo.rows) - len(known), len(known))

    replace(GenerationWriter, "commit", store)


def no_fence() -> None:
    """Neither the offset nor the epoch of a checkpoint is compared."""
    for name in ("ADVANCE", "IN_ONE_STATEMENT"):
        sql = getattr(commit, name)
        assert FENCE in sql
        replace(commit, name, sql.replace(FENCE, ""))


def swallows_errors() -> None:
    """A batch that fails is dropped, and the checkpoint moves on."""

    usual = applier._write

    async def write(self: Any, connection: Any, part: Any, assembled: Any) -> Done:
        try:
            await usual(self, connection, part, assembled)
        except Exception:  # noqa: BLE001 - the fault
            await skip(self, part, assembled)
        return Done()

    async def skip(self: Any, part: Any, assembled: Any) -> None:
        while True:
            try:
                async with asyncio.timeout(10), self._pool.acquire() as connection, connection.transaction():
                    await self._writer._advance_checkpoints(connection, assembled.batch)
                return self._adopt(assembled, Committed(0, 0), 1)  # type: ignore[no-any-return]
            except commit._FencedError:
                return self._ownership.fenced(part)  # type: ignore[no-any-return]
            except Exception:  # noqa: BLE001
                await asyncio.sleep(0.1)

    replace(applier, "_write", write)


def commits_on_rebalance() -> None:
    """The checkpoint of a revoked partition moves to the consumer's position, even if the rows are not stored."""
    usual, slow = Ownership.on_partitions_revoked, GenerationWriter.commit

    async def revoked(self: Any, partitions: Any) -> None:
        partitions = list(partitions)
        async with self._pool.acquire() as connection:
            for tp in partitions:
                if tp.partition in self.held:
                    sql = "UPDATE read_g1.checkpoints SET next_offset = $1 WHERE topic = $2 AND partition = $3"
                    await connection.execute(sql, await self._consumer.position(tp), tp.topic, tp.partition)
        await usual(self, partitions)

    async def slowly(self: Any, connection: Any, todo: Any) -> Committed | Fenced:
        await asyncio.sleep(0.3)
        return await slow(self, connection, todo)

    replace(Ownership, "on_partitions_revoked", revoked)
    replace(GenerationWriter, "commit", slowly)


def projects_duplicates() -> None:
    """Projections fold every row of a batch, also those that ON CONFLICT skipped."""
    usual = GenerationWriter.apply

    async def apply(self: Any, connection: Any, rows: Any) -> Any:
        known = await usual(self, connection, rows)
        if known:
            folded = commit.arguments(self._projections, commit.event_batch_of(known, self.meanings))
            await connection.execute(self._project, *folded)
        return known

    replace(GenerationWriter, "apply", apply)


def keeps_repeats() -> None:
    """All records of one event in a batch are kept."""
    replace(batch, "_drop_duplicates", lambda _: None)


def projects_in_reverse() -> None:
    """Projections see a batch's events in reverse order, so that an older event overwrites a newer one."""
    usual = commit.event_batch_of
    replace(commit, "event_batch_of", lambda rows, meanings: usual(list(reversed(rows)), meanings))


def _after_assembly(change: Callable[[Any], None]) -> None:
    usual = apply.assemble

    def assemble(*arguments: Any, **options: Any) -> Any:
        found = usual(*arguments, **options)
        change(found)
        return found

    replace(apply, "assemble", assemble)


def moves_one_too_far() -> None:
    """The checkpoint names the offset after the next."""

    def change(found: Any) -> None:
        advances, positions = found.batch.advances, found.positions_after
        advances[:] = [msgspec.structs.replace(a, new_offset=a.new_offset + 1) for a in advances]
        positions[:] = [msgspec.structs.replace(p, next_offset=p.next_offset + 1) for p in positions]

    _after_assembly(change)


def drops_the_last_record() -> None:
    """The last row of each batch with several rows is dropped."""
    _after_assembly(lambda found: found.batch.rows.pop() if len(found.batch.rows) > 1 else None)


def rounds_numbers() -> None:
    """Payloads are encoded again, with fewer decimals."""

    def change(found: Any) -> None:
        for index, row in enumerate(found.batch.rows):
            if "price" in row.event.payload:
                payload = row.event.payload | {"price": round(row.event.payload["price"])}
                found.batch.rows[index] = msgspec.structs.replace(row, payload=msgspec.json.encode(payload))

    _after_assembly(change)


def parks_by_mistake() -> None:
    """Every fourth batch is parked as poison although it is valid."""
    usual, turn = apply.assemble, itertools.count(1)

    def assemble(fetched: Any, parked: Any, caps: Any, park_as: Any = None) -> Any:
        mistaken = Diagnosis("poison", "Mistake", "planted") if next(turn) % 4 == 0 else None
        return usual(fetched, parked, caps, park_as or mistaken)

    replace(apply, "assemble", assemble)
