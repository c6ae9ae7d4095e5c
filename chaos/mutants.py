"""Planted faults that the checker must catch: small patches of the running Footfall, each with its trigger.

`python -m chaos.mutant NAME ..` applies a patch and then runs `footfall ..`.
"""

import asyncio
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from uuid_utils.compat import uuid7

from chaos.cluster import Cluster
from chaos.reference_model import KEYS
from chaos.triggers import (
    ack_nothing,
    crashes,
    duplicates,
    failing_database,
    fresh_duplicates,
    nothing,
    rebalances,
    stalled_broker,
    zombies,
)
from command_side.idempotency import Follow
from command_side.publishing import kafka_event_log, produce_round
from command_side.publishing.event_log import ACKNOWLEDGED, SOMEWHERE, Acknowledged, Outcome
from command_side.publishing.kafka_producer import KafkaProducer
from projector.consuming import batch as _batch
from projector.consuming.ownership import Ownership
from projector.dead_letters.parking import park
from projector.writing import apply as _apply
from projector.writing import commit as _commit
from projector.writing.apply import Applier, Done
from projector.writing.commit import Committed, Fenced, GenerationWriter
from projector.writing.failure import Diagnosis

# The patches replace private code, which has no public types; `_replace` fails if the code is no longer there.
apply: Any = _apply
applier: Any = Applier
batch: Any = _batch
commit: Any = _commit
log: Any = kafka_event_log.KafkaEventLog

FENCE = "AND c.next_offset = w.old_offset AND c.epoch = w.epoch"
ROWS = tuple(f"rows of {table}" for table in KEYS)
UNIQUE = "ALTER TABLE read_g1.processed_events DROP CONSTRAINT processed_events_event_id_key"


@dataclass(frozen=True)
class Mutant:
    """A fault: its role, its patch, its trigger, and the findings of which the checker must report at least one."""

    role: str  # projector or command
    plant: Callable[[], None]
    trigger: Callable[[Cluster], None]
    expected: tuple[str, ...]
    schema: str = ""


def leaves_the_product_as_it_is() -> None:
    """Patches nothing: the fault is in the schema."""


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

    _replace(GenerationWriter, "commit", store)


def no_fence() -> None:
    """Neither the offset nor the epoch of a checkpoint is compared."""
    for name in ("ADVANCE", "IN_ONE_STATEMENT"):
        sql = getattr(commit, name)
        assert FENCE in sql
        _replace(commit, name, sql.replace(FENCE, ""))


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

    _replace(applier, "_write", write)


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

    _replace(Ownership, "on_partitions_revoked", revoked)
    _replace(GenerationWriter, "commit", slowly)


def projects_duplicates() -> None:
    """Projections fold every row of a batch, also those that ON CONFLICT skipped."""
    usual = GenerationWriter.apply

    async def apply(self: Any, connection: Any, rows: Any) -> Any:
        known = await usual(self, connection, rows)
        if known:
            folded = commit.arguments(self._projections, commit.event_batch_of(known, self.meanings))
            await connection.execute(self._project, *folded)
        return known

    _replace(GenerationWriter, "apply", apply)


def keeps_repeats() -> None:
    """All records of one event in a batch are kept."""
    _replace(batch, "_drop_duplicates", lambda _: None)


def projects_in_reverse() -> None:
    """Projections see a batch's events in reverse order, so that an older event overwrites a newer one."""
    usual = commit.event_batch_of
    _replace(commit, "event_batch_of", lambda rows, meanings: usual(list(reversed(rows)), meanings))


def _after_assembly(change: Callable[[Any], None]) -> None:
    usual = apply.assemble

    def assemble(*arguments: Any, **options: Any) -> Any:
        found = usual(*arguments, **options)
        change(found)
        return found

    _replace(apply, "assemble", assemble)


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

    _replace(apply, "assemble", assemble)


def new_id_on_retry() -> None:
    """The command side sends some batches again, under new event ids."""
    producer: Any = KafkaProducer
    usual, chance = producer.submit, random.Random(1)

    async def submit(self: Any, partition: int, waiting: Any) -> Any:
        sent, count = await usual(self, partition, waiting)
        if chance.random() < 0.02:
            await sent
            kept = [one.record for one in waiting]
            for one in waiting:
                one.record = _under_a_new_id(one.record)
            again, _ = await usual(self, partition, waiting)
            await again
            for one, record in zip(waiting, kept, strict=True):
                one.record = record
        return sent, count

    _replace(producer, "submit", submit)


def _under_a_new_id(record: Any) -> Any:
    old, new = dict(record.headers)["event-id"], str(uuid7()).encode()
    headers = [(name, new if name == "event-id" else value) for name, value in record.headers]
    return msgspec.structs.replace(record, value=record.value.replace(old, new), headers=headers)


def scatters_users() -> None:
    """Some records go to another partition than their user's."""
    usual, chance = produce_round.partition_chooser, random.Random(1)

    def chooser(partitions: int) -> Callable[[bytes], int]:
        choose = usual(partitions)
        return lambda key: chance.randrange(partitions) if chance.random() < 0.02 else int(choose(key))

    _replace(produce_round, "partition_chooser", chooser)


def acknowledges_early() -> None:
    """A command is acknowledged before Kafka has acknowledged it."""
    usual = log.publish_nowait

    def publish_nowait(self: Any, record: Any, on_result: Any) -> Any:
        pending = usual(self, record, lambda _: None)
        on_result(Acknowledged(0, 0))
        return pending

    _replace(log, "publish_nowait", publish_nowait)


def acknowledges_who_follows() -> None:
    """A repeated command that waits for an unacknowledged record is answered as if it were acknowledged."""
    awaited, called = Follow.outcome, Follow.on_outcome

    def false(found: Outcome) -> Outcome:
        return found if isinstance(found, ACKNOWLEDGED) else SOMEWHERE

    async def outcome(self: Any) -> Outcome:
        return false(await awaited(self))

    def on_outcome(self: Any, call: Callable[[Outcome], None]) -> None:
        called(self, lambda found: call(false(found)))

    _replace(Follow, "outcome", outcome)
    _replace(Follow, "on_outcome", on_outcome)


def _replace(owner: Any, name: str, value: Any) -> None:
    """Replaces an attribute that must exist; otherwise a patch without effect would look like a fault not caught."""
    getattr(owner, name)
    setattr(owner, name, value)


MUTANTS: dict[str, Mutant] = {
    "no unique constraint": Mutant("projector", leaves_the_product_as_it_is, duplicates, ("duplicated",), UNIQUE),
    "checkpoint before rows": Mutant("projector", checkpoint_before_rows, crashes, ("lost",)),
    "no fence": Mutant("projector", no_fence, zombies, ("checkpoints", "lost", "duplicated", *ROWS)),
    "swallowed error": Mutant("projector", swallows_errors, failing_database, ("lost",)),
    "commit on rebalance without data": Mutant("projector", commits_on_rebalance, rebalances, ("lost",)),
    "duplicates projected": Mutant("projector", projects_duplicates, duplicates, ROWS),
    "repeats within a batch projected": Mutant("projector", keeps_repeats, fresh_duplicates, ROWS),
    "stale projection": Mutant("projector", projects_in_reverse, fresh_duplicates, ROWS),
    "offset plus two": Mutant("projector", moves_one_too_far, nothing, ("lost", "checkpoints")),
    "last record of a batch dropped": Mutant("projector", drops_the_last_record, nothing, ("lost",)),
    "payload encoded wrongly": Mutant("projector", rounds_numbers, nothing, ("corrupted",)),
    "sound events parked": Mutant("projector", parks_by_mistake, nothing, ("dead letters",)),
    "new event id on retry": Mutant("command", new_id_on_retry, nothing, ("duplicated",)),
    "users scattered over partitions": Mutant("command", scatters_users, nothing, ("reordered",)),
    "who follows a failure is told success": Mutant("command", acknowledges_who_follows, stalled_broker, ("lost",)),
    "acknowledged before Kafka": Mutant("command", acknowledges_early, ack_nothing, ("lost",)),
}
