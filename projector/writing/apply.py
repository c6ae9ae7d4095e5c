"""One part of a fetch, applied however long it takes; what fails is judged by its kind (docs/decisions/0006).

What may pass is tried again where it stands. What was too much is tried in smaller pieces. What fails on the record
in hand, and on it alone, is looked for by halving: a batch of n records with one culprit takes about 2 log2 n
transactions, and all others are applied. Alone, a record is blamed only after two trials, each on a connection made
for it, on which another's event could be applied.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import stamina

from projector.consuming.batch import Assembled, Part, assemble, cut, size_of
from projector.consuming.batch_size import BatchSize
from projector.consuming.ownership import DATABASE_TIMEOUT, Ownership
from projector.dead_letters.parking import Caps
from projector.failpoints import reached
from projector.generations.progress import count
from projector.liveness.stops import Stop, StopCause
from projector.writing.claims import RELEASE_TIMEOUT
from projector.writing.commit import Committed, Fenced, GenerationWriter
from projector.writing.connection import Connection, connected
from projector.writing.failure import DATABASE_ERRORS, Diagnosis, Failure, diagnosis, kind_of, unappliable
from projector.writing.known_good_check import known_good_fails
from projector.writing.rows import EventRow, KafkaRecord
from telemetry.logs import get_logger
from telemetry.metrics import BATCHES_FENCED, COMMIT_SECONDS, PROJECTION_RETRIES

PATIENCE = 5.0  # seconds of the same failure before we ask whether it is this batch or everything
TRIALS = 2  # of a record that stands alone, before it is blamed


class Done(msgspec.Struct, frozen=True):
    """The part is applied, given up to another owner, or left because we are to stop."""


class Again(msgspec.Struct, frozen=True):
    """Nothing can be applied now, whatever it is: try the same again."""


class Smaller(msgspec.Struct, frozen=True):
    """It was too much: try as many records as now seem right."""


class Halve(msgspec.Struct, frozen=True):
    """Something in it fails while others succeed: find it."""


class Park(msgspec.Struct, frozen=True):
    """Its only record is poison."""

    why: Diagnosis


class StandStill(msgspec.Struct, frozen=True):
    """Its partitions cannot go on."""

    stop: Stop


Verdict = Done | Again | Smaller | Halve | Park | StandStill


class Applier:
    """Applies parts for the lanes of one generation.

    `letters_parked` is set when letters were; `on_commit` is called after each commit, `on_stored` with its rows.
    """

    def __init__(
        self,
        pool: Any,
        ownership: Ownership,
        writer: GenerationWriter,
        caps: Caps,
        size: BatchSize,
        on_commit: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._ownership = ownership
        self._writer = writer
        self._caps = caps
        self._size = size
        self._on_commit = on_commit
        self._log = get_logger("projector")
        self.letters_parked = asyncio.Event()
        self.on_stored: Callable[[Sequence[EventRow]], None] = lambda _rows: None

    async def apply(self, part: Part, stop: asyncio.Event) -> None:
        """Commits a part in pieces of the size that goes well now. Returns early when asked to stop."""
        rest = part
        while rest:
            piece, rest = cut(rest, self._size.limit)
            await self._apply(piece, stop, PATIENCE)

    async def _apply(self, part: Part, stop: asyncio.Event, patience: float) -> None:
        """What no longer follows the position held falls away: its partition was given up, or an earlier piece of the
        same fetch was not committed.
        """
        while current := {position: records for position, records in part.items() if self._ownership.holds(position)}:
            verdict = await self._try(current, stop, patience)
            if not isinstance(verdict, Again):
                return await self._obey(verdict, current, stop)
            patience = PATIENCE  # between two looks at whether others succeed
        return None

    async def _obey(self, verdict: Verdict, part: Part, stop: asyncio.Event) -> None:
        match verdict:
            case Smaller():
                await self.apply(part, stop)
            case Halve():
                for half in cut(part, size_of(part) // 2):
                    await self._apply(half, stop, patience=0)
            case Park(why):
                await self._park(part, why, stop)
            case StandStill(reason):
                self._ownership.stop(part, reason)
            case _:
                pass

    async def _try(self, part: Part, stop: asyncio.Event, patience: float) -> Verdict:
        try:
            return await self._commit(part, stop, self._worth_a_retry(part, patience))
        except Exception as error:  # noqa: BLE001 - whatever it is, its kind decides
            self._log.error("batch_failed", partitions=[p.partition for p in part], **diagnosis(error))
            return await self._judge(part, error, stop)

    def _worth_a_retry(self, part: Part, patience: float) -> Callable[[Exception], bool]:
        """Whether the same is tried again at once, without a second thought."""
        alone, began = size_of(part) == 1, time.monotonic()

        def worth_it(error: Exception) -> bool:
            kind = kind_of(error)
            if kind is Failure.TOO_MUCH and not alone:
                return False
            waits = kind in (Failure.SERVER, Failure.TOO_MUCH) and time.monotonic() - began < patience
            return kind is Failure.TRANSIENT or waits

        return worth_it

    async def _commit(
        self, part: Part, stop: asyncio.Event, worth_a_retry: Callable[[Exception], bool], why: Diagnosis | None = None
    ) -> Verdict:
        """Tries until the outcome is known. `why`: the one record is to be parked for this reason.

        Trying the same batch again is safe: had the lost COMMIT succeeded, the checkpoint would have moved, and the
        second try would be fenced.
        """
        async for attempt in _retries(worth_a_retry):
            if stop.is_set() and attempt.num > 1:
                return Done()
            self._ownership.heartbeats.attempt()
            if attempt.num > 1:
                PROJECTION_RETRIES.inc()
            with attempt:
                return await self._once(part, why)
        return Done()

    async def _once(self, part: Part, why: Diagnosis | None) -> Verdict:
        assembled = assemble(part, self._ownership.parked, self._caps, why)
        await reached("after_assemble")
        try:
            with COMMIT_SECONDS.time():
                async with asyncio.timeout(DATABASE_TIMEOUT), connected(self._pool, RELEASE_TIMEOUT) as connection:
                    return await self._write(connection, part, assembled)
        except Exception as error:
            self._ownership.heartbeats.failed(error)
            if kind_of(error) is not Failure.SUSPECT:
                await self._pool.expire_connections()  # what is wrong may be the session
            raise

    async def _write(self, connection: Connection, part: Part, assembled: Assembled) -> Verdict:
        if assembled.batch.advances:
            outcome = await self._writer.commit(connection, assembled.batch)
            self._on_commit()  # also when fenced: a COMMIT whose answer was lost may be what fences us
            if isinstance(outcome, Fenced):
                BATCHES_FENCED.labels(generation=self._writer.generation).inc()
                self._log.warning("batch_fenced", partitions=[p.partition for p in part])
                self._ownership.lost(part)
                return Done()
            self._move_on(assembled, outcome, size_of(part))
        for partition, refusal in assembled.refused.items():
            self._ownership.stop([p for p in self._ownership.held.values() if p.partition == partition], refusal)
        return Done()

    def _move_on(self, assembled: Assembled, outcome: Committed, records: int) -> None:
        self._ownership.heartbeats.succeeded()
        self._size.went_well(records)
        self._ownership.advance(assembled.positions_after)
        self._ownership.parked.update(assembled.parked_after)
        count(self._writer.generation, assembled.batch, outcome)
        if assembled.batch.letters:
            self.letters_parked.set()
        try:
            self.on_stored(assembled.batch.rows)
        except Exception as error:  # noqa: BLE001 - the batch is committed: what only looks at it cannot fail it
            self._log.error("look_failed", **diagnosis(error))

    async def _park(self, part: Part, why: Diagnosis, stop: asyncio.Event) -> None:
        """What cannot be parked either is not the record's fault."""
        try:
            await self._commit(part, stop, self._worth_a_retry(part, float("inf")), why)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a defect here
            self._log.error("batch_failed", partitions=[p.partition for p in part], **diagnosis(error))
            self._ownership.stop(part, Stop(StopCause.DEFECT, _fact(error)))

    async def _judge(self, part: Part, error: Exception, stop: asyncio.Event) -> Verdict:
        kind, alone = kind_of(error), size_of(part) == 1
        if kind is Failure.DEFECT:
            return StandStill(Stop(StopCause.DEFECT, _fact(error)))
        if kind is Failure.TOO_MUCH and not alone:
            self._size.too_much(size_of(part))
            return Smaller()
        if kind is Failure.SUSPECT:
            return await self._on_trial(part, stop) if alone else Halve()
        return await self._isolate(part, error, stop)

    async def _isolate(self, part: Part, error: Exception, stop: asyncio.Event) -> Verdict:
        """The database fails or refuses us. Should others' events succeed, only what fails stands still."""
        if stop.is_set():
            return Done()
        try:
            async with asyncio.timeout(DATABASE_TIMEOUT), connected(self._pool, RELEASE_TIMEOUT) as connection:
                if await known_good_fails(connection, self._writer, _first(part)) is not None:
                    return Again()
        except DATABASE_ERRORS:
            return Again()
        return Halve() if size_of(part) > 1 else StandStill(Stop(StopCause.SERVER, _fact(error)))

    async def _on_trial(self, part: Part, stop: asyncio.Event) -> Verdict:
        """The record stands alone, and may be at fault."""
        verdict: Verdict = Again()
        for _ in range(TRIALS):
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
        """Tries the record, and then others' events, on a new connection. Raises what is no record's fault."""
        await self._pool.expire_connections()
        async with asyncio.timeout(DATABASE_TIMEOUT), connected(self._pool, RELEASE_TIMEOUT) as connection:
            try:
                return await self._write(connection, part, assemble(part, self._ownership.parked, self._caps))
            except Exception as error:
                if kind_of(error) is not Failure.SUSPECT:
                    raise
                others_fail = await known_good_fails(connection, self._writer, _first(part))
                if others_fail is None:
                    return Park(unappliable(error))
                if kind_of(others_fail) in (Failure.SUSPECT, Failure.DEFECT):
                    return StandStill(Stop(StopCause.DEFECT, _fact(error)))
                raise others_fail from error


def _retries(on: Callable[[Exception], bool]) -> Any:
    return stamina.retry_context(on=on, attempts=None, timeout=None, wait_initial=0.1, wait_max=2.0, wait_jitter=0.2)


def _first(part: Part) -> KafkaRecord:
    return next(iter(part.values()))[0]


def _fact(error: Exception) -> str:
    code = getattr(error, "sqlstate", None)
    return f"{type(error).__name__} {code}" if code else type(error).__name__
