"""Applies one part of a fetch, however long it takes. The kind of a failure decides what follows (docs/decisions/0006).

- A transient failure: the same batch is retried.
- Too much for one transaction: the batch is retried in smaller pieces.
- A failure that may be a record's fault: the batch is bisected, in about 2 log2 n transactions for one among n records.

A single record is blamed only after it failed twice, each time on a new connection that applied another user's event.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import stamina

from projector.consuming.batch import Assembled, Part, assemble, record_count, split_at
from projector.consuming.batch_size import BatchSize
from projector.consuming.ownership import DATABASE_TIMEOUT, Ownership
from projector.dead_letters.parking import Caps
from projector.failpoints import reached
from projector.generations.progress import count_commit
from projector.liveness.stops import Stop, StopCause
from projector.sealed.opener import UNSEALED, Opener, Unsealed
from projector.sealed.parts import opened_part
from projector.tracing import BatchTrace
from projector.writing.claims import RELEASE_TIMEOUT
from projector.writing.commit import Committed, Fenced, GenerationWriter
from projector.writing.connection import connected
from projector.writing.failure import (
    DATABASE_ERRORS,
    Diagnosis,
    Failure,
    cannot_be_applied,
    diagnosis,
    kind_of,
    name_of,
)
from projector.writing.known_good_check import known_good_fails
from projector.writing.rows import EventRow, KafkaRecord
from read_model.connecting.pool import Connection
from telemetry.logs import get_logger
from telemetry.metrics import BATCHES_FENCED, COMMIT_SECONDS, PROJECTION_RETRIES

PATIENCE = 5.0  # seconds of the same failure before we check whether only this batch fails, or everything
ATTEMPTS_ALONE = 2  # failed attempts of a single record before it is blamed


class Done(msgspec.Struct, frozen=True):
    """The part is applied, or fenced by another owner, or left because the projector stops."""


class GoOn(msgspec.Struct, frozen=True):
    """The part is applied but for its rest, which needs a transaction of its own."""

    rest: Part


class Retry(msgspec.Struct, frozen=True):
    """No event can be applied now: try the same part again."""


class RetrySmaller(msgspec.Struct, frozen=True):
    """The part was too much for one transaction: try again with the current batch size."""


class Bisect(msgspec.Struct, frozen=True):
    """Some record of the part fails while other events succeed: bisect the part to find it."""


class Park(msgspec.Struct, frozen=True):
    """The only record of the part is poison: park it with this diagnosis."""

    why: Diagnosis


class StopPartitions(msgspec.Struct, frozen=True):
    """The partitions of the part cannot continue."""

    stop: Stop


Verdict = Done | GoOn | Retry | RetrySmaller | Bisect | Park | StopPartitions


class Applier:
    """Applies parts of fetches for the lanes of one generation. `trace_of` is called with each part before its commit.

    `letters_parked` is set after a commit with letters; `on_commit` is called after each, `on_stored` with its rows.
    """

    def __init__(
        self,
        pool: Any,
        ownership: Ownership,
        writer: GenerationWriter,
        caps: Caps,
        size: BatchSize,
        on_commit: Callable[[], None],
        opener: Opener | Unsealed = UNSEALED,
    ) -> None:
        self._pool = pool
        self._ownership = ownership
        self._writer = writer
        self._caps = caps
        self._size = size
        self._on_commit = on_commit
        self._opener = opener
        self._log = get_logger("projector")
        self.letters_parked = asyncio.Event()
        self.on_stored: Callable[[Sequence[EventRow], Part], None] = lambda _rows, _part: None
        self.trace_of: Callable[[Part], BatchTrace | None] = lambda _part: None

    async def apply(self, part: Part, stop: asyncio.Event) -> None:
        """Commits a part, in pieces of the current batch size. Returns early when `stop` is set."""
        rest = part
        while rest:
            piece, rest = split_at(rest, self._size.limit)
            await self._apply(piece, stop, PATIENCE)

    async def _apply(self, part: Part, stop: asyncio.Event, patience: float) -> None:
        """Applies the records of held positions: of partitions that were not released, with no earlier piece left."""
        while current := {position: records for position, records in part.items() if self._ownership.holds(position)}:
            verdict = await self._try(current, stop, patience)
            if isinstance(verdict, GoOn):
                part = verdict.rest
            elif not isinstance(verdict, Retry):
                return await self._act_on(verdict, current, stop)
            patience = PATIENCE  # seconds until the next check whether other events succeed
        return None

    async def _act_on(self, verdict: Verdict, part: Part, stop: asyncio.Event) -> None:
        match verdict:
            case RetrySmaller():
                await self.apply(part, stop)
            case Bisect():
                for half in split_at(part, record_count(part) // 2):
                    await self._apply(half, stop, patience=0)
            case Park(why):
                await self._park(part, why, stop)
            case StopPartitions(reason):
                self._ownership.stop(part, reason)
            case _:
                pass

    async def _try(self, part: Part, stop: asyncio.Event, patience: float) -> Verdict:
        try:
            return await self._commit(part, stop, self._retried_at_once(part, patience))
        except Exception as error:  # noqa: BLE001 - the kind of any error decides
            self._log.error("batch_failed", partitions=[p.partition for p in part], **diagnosis(error))
            return await self._judge(part, error, stop)

    def _retried_at_once(self, part: Part, patience: float) -> Callable[[Exception], bool]:
        """Returns a predicate: whether an error is retried at once, before any further check."""
        alone, began = record_count(part) == 1, time.monotonic()

        def retried(error: Exception) -> bool:
            kind = kind_of(error)
            if kind is Failure.TOO_MUCH and not alone:
                return False
            waits = kind in (Failure.SERVER, Failure.TOO_MUCH) and time.monotonic() - began < patience
            return kind is Failure.TRANSIENT or waits

        return retried

    async def _commit(
        self, part: Part, stop: asyncio.Event, retried: Callable[[Exception], bool], why: Diagnosis | None = None
    ) -> Verdict:
        """Commits the part, with retries until the outcome is known. `why`: the diagnosis to park its one record with.

        Retrying the same batch is safe. If a COMMIT succeeded but its answer was lost, the checkpoint has advanced, and
        the second attempt is fenced.
        """
        async for attempt in _retries(retried):
            if stop.is_set() and attempt.num > 1:
                return Done()
            self._ownership.heartbeats.attempt()
            if attempt.num > 1:
                PROJECTION_RETRIES.inc()
            with attempt:
                return await self._attempt(part, why)
        return Done()

    async def _attempt(self, part: Part, why: Diagnosis | None) -> Verdict:
        try:
            opened = await opened_part(self._opener, part, self._pool)
            assembled = assemble(opened, self._ownership.parked, self._caps, why)
            await reached("after_assemble")
            with COMMIT_SECONDS.time():
                async with asyncio.timeout(DATABASE_TIMEOUT), connected(self._pool, RELEASE_TIMEOUT) as connection:
                    return await self._write(connection, part, assembled)
        except Exception as error:
            self._ownership.heartbeats.failed(error)
            if kind_of(error) is not Failure.SUSPECT:
                await self._pool.expire_connections()  # the session itself may be at fault
            raise

    async def _write(self, connection: Connection, part: Part, assembled: Assembled) -> Verdict:
        if assembled.batch.advances:
            trace = self.trace_of(part)
            outcome = await self._writer.commit(connection, assembled.batch)
            self._on_commit()  # also when fenced: our own COMMIT, whose answer was lost, may have fenced us
            if isinstance(outcome, Fenced):
                BATCHES_FENCED.labels(generation=self._writer.generation).inc()
                self._log.warning("batch_fenced", partitions=[p.partition for p in part])
                self._ownership.fenced(part)
                return Done()
            self._adopt(assembled, outcome, part, trace)
        for partition, refusal in assembled.refused.items():
            self._ownership.stop([p for p in self._ownership.held.values() if p.partition == partition], refusal)
        return GoOn(assembled.rest) if assembled.rest else Done()

    def _adopt(self, assembled: Assembled, outcome: Committed, part: Part, trace: BatchTrace | None) -> None:
        self._ownership.heartbeats.succeeded()
        self._size.succeeded(record_count(part))
        self._ownership.advance(assembled.positions_after)
        self._ownership.parked.update(assembled.parked_after)
        count_commit(self._writer.generation, assembled.batch, outcome, trace)
        if assembled.batch.letters:
            self.letters_parked.set()
        if outcome.letters_emptied:  # also such as have another user's key: load what is parked still
            self._ownership.reverify(assembled.positions_after)
        try:
            self.on_stored(assembled.batch.rows, part)
        except Exception as error:  # noqa: BLE001 - the batch is committed; an observer must not fail it
            self._log.error("look_failed", **diagnosis(error))

    async def _park(self, part: Part, why: Diagnosis, stop: asyncio.Event) -> None:
        """Parks the one record of the part. If even that fails, it is not the record's fault: the partition stops."""
        try:
            await self._commit(part, stop, self._retried_at_once(part, float("inf")), why)
        except Exception as error:  # noqa: BLE001 - any error is a defect here
            self._log.error("batch_failed", partitions=[p.partition for p in part], **diagnosis(error))
            self._ownership.stop(part, Stop(StopCause.DEFECT, name_of(error)))

    async def _judge(self, part: Part, error: Exception, stop: asyncio.Event) -> Verdict:
        kind, alone = kind_of(error), record_count(part) == 1
        if kind is Failure.DEFECT:
            return StopPartitions(Stop(StopCause.DEFECT, name_of(error)))
        if kind is Failure.TOO_MUCH and not alone:
            self._size.failed(record_count(part))
            return RetrySmaller()
        if kind is Failure.SUSPECT:
            return await self._judge_record(part, stop) if alone else Bisect()
        return await self._judge_server(part, error, stop)

    async def _judge_server(self, part: Part, error: Exception, stop: asyncio.Event) -> Verdict:
        """Checks whether a database that fails or refuses a part still applies other events.

        If it does, only the failing records' partitions stop. If not, the part is retried.
        """
        if stop.is_set():
            return Done()
        try:
            async with asyncio.timeout(DATABASE_TIMEOUT), connected(self._pool, RELEASE_TIMEOUT) as connection:
                if await known_good_fails(connection, self._writer, _first(part)) is not None:
                    return Retry()
        except DATABASE_ERRORS:
            return Retry()
        return Bisect() if record_count(part) > 1 else StopPartitions(Stop(StopCause.SERVER, name_of(error)))

    async def _judge_record(self, part: Part, stop: asyncio.Event) -> Verdict:
        """Tries a single record that may be at fault up to `ATTEMPTS_ALONE` times, each on a new connection."""
        verdict: Verdict = Retry()
        for _ in range(ATTEMPTS_ALONE):
            async for attempt in _retries(lambda error: kind_of(error) is not Failure.SUSPECT):
                if stop.is_set() and attempt.num > 1:
                    return Done()
                self._ownership.heartbeats.attempt()
                with attempt:
                    verdict = await self._try_alone(part)
            if not isinstance(verdict, Park):
                break
        return verdict

    async def _try_alone(self, part: Part) -> Verdict:
        """Tries the record and then other users' events on a new connection. Raises errors that no record causes."""
        await self._pool.expire_connections()
        opened = await opened_part(self._opener, part, self._pool)
        async with asyncio.timeout(DATABASE_TIMEOUT), connected(self._pool, RELEASE_TIMEOUT) as connection:
            try:
                return await self._write(connection, part, assemble(opened, self._ownership.parked, self._caps))
            except Exception as error:
                if kind_of(error) is not Failure.SUSPECT:
                    raise
                others_fail = await known_good_fails(connection, self._writer, _first(part))
                if others_fail is None:
                    return Park(cannot_be_applied(error))
                if kind_of(others_fail) in (Failure.SUSPECT, Failure.DEFECT):
                    return StopPartitions(Stop(StopCause.DEFECT, name_of(error)))
                raise others_fail from error


def _retries(on: Callable[[Exception], bool]) -> Any:
    return stamina.retry_context(on=on, attempts=None, timeout=None, wait_initial=0.1, wait_max=2.0, wait_jitter=0.2)


def _first(part: Part) -> KafkaRecord:
    return next(iter(part.values()))[0]
