"""Dead letters processed again, or given up, by an operator, beside projectors that go on (docs/dead-letters.md).

One transaction a chunk, of one partition. It takes the partition's checkpoint and raises its epoch: a batch that the
owner has in hand is fenced, so nobody else writes rows of this partition, and the owner reads anew what is parked. The
letters then go through the same code as a batch.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, TypeAlias

import asyncpg
import msgspec
import stamina
import uuid_utils

from projector.dead_letters.letter_filter import MATCHES, LetterFilter
from projector.dead_letters.redrive_attempt import Letter, RedriveError, Tried, attempt_letters, letter_of
from projector.writing.commit import GenerationWriter
from projector.writing.connection import Connection
from projector.writing.failure import Diagnosis, Failure, kind_of
from read_model.progress import tell_readers
from read_model.tables import late_events

CHUNK = 500  # letters in one transaction at most: the partition's owner waits for so long
BUSY = (asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError)  # the transaction is undone; try again

LOCK_TIMEOUT = "SET LOCAL lock_timeout = '5s'"

WHERE_CHOSEN = f"""
SELECT kafka_topic AS topic, kafka_partition AS partition, count(*) AS letters
FROM {{generation}}.dead_letters WHERE {MATCHES} GROUP BY 1, 2 ORDER BY 1, 2
"""

CHOSEN_KEYS = f"""
SELECT record_key AS key, min(kafka_offset) AS first FROM {{generation}}.dead_letters
WHERE {MATCHES} AND record_key <> '' GROUP BY 1
"""

# What waits behind a chosen letter of its key comes along.
NEXT_OF_CHOSEN_KEYS = f"""
SELECT l.* FROM {{generation}}.dead_letters AS l
LEFT JOIN unnest($11::bytea[], $12::bigint[]) AS chosen(key, first) ON chosen.key = l.record_key
WHERE l.state = 'parked' AND l.kafka_topic = $6 AND l.kafka_partition = $7 AND l.kafka_offset > $13
  AND (l.kafka_offset >= chosen.first OR (coalesce(l.record_key, '') = '' AND {MATCHES}))
ORDER BY l.kafka_offset LIMIT $14
"""

NEXT_CHOSEN = f"""
SELECT * FROM {{generation}}.dead_letters
WHERE {MATCHES} AND kafka_offset > $11 ORDER BY kafka_offset LIMIT $12
"""

FIRST_PARKED = """
SELECT record_key, min(kafka_offset) AS first FROM {generation}.dead_letters
WHERE state = 'parked' AND kafka_topic = $1 AND kafka_partition = $2 AND record_key = ANY($3::bytea[])
GROUP BY record_key
"""

TAKE = "UPDATE {generation}.checkpoints SET epoch = epoch + 1 WHERE topic = $1 AND partition = $2 RETURNING epoch"

RESOLVE = """
UPDATE {generation}.dead_letters
SET state = $4, resolved_at = now(), resolved_by = $5, attempts = attempts + $6
WHERE kafka_topic = $1 AND kafka_partition = $2 AND kafka_offset = ANY($3::bigint[])
"""

DIAGNOSE = """
UPDATE {generation}.dead_letters AS l
SET attempts = l.attempts + w.tried, cause = w.cause, error_class = w.error_class, error_message = w.error_message,
    behind_offset = w.behind_offset
FROM unnest($3::bigint[], $4::int[], $5::text[], $6::text[], $7::text[], $8::bigint[])
    AS w(kafka_offset, tried, cause, error_class, error_message, behind_offset)
WHERE l.kafka_topic = $1 AND l.kafka_partition = $2 AND l.kafka_offset = w.kafka_offset
"""

COUNT = """
UPDATE {generation}.checkpoints
SET stored = stored + $3, duplicates = duplicates + $4, malformed = malformed + $5, updated_at = now()
WHERE topic = $1 AND partition = $2
"""

JOURNAL = "INSERT INTO ops.journal (actor, action, detail) VALUES ($1, $2, $3)"

ACTIVE = "SELECT name FROM ops.generations WHERE state = 'active'"

# What became of a letter. `blocked`: an earlier parked letter of its key was not chosen.
Outcome: TypeAlias = Literal["stored", "duplicate", "poison", "newer_version", "behind", "blocked", "discarded"]
Progress: TypeAlias = Callable[[int], None]  # so many letters more are dealt with
Place: TypeAlias = tuple[str, int]  # topic and partition


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a run goes: at most `limit` letters, at most `rate` a second; a dry run is undone to the last bit."""

    actor: str
    limit: int = 1_000
    rate: float | None = None
    dry_run: bool = False


class Dealt(msgspec.Struct, frozen=True):
    """One letter, and what became of it."""

    topic: str
    partition: int
    offset: int
    outcome: Outcome
    reason: str | None = None


Chunk: TypeAlias = Callable[[Connection, Place, int, int], Awaitable[list[Dealt]]]  # .., after offset, size


async def active_generation(connection: Connection) -> str:
    """The generation that queries see."""
    found: str = await connection.fetchval(ACTIVE)
    return found


class Redrive:
    """Runs of an operator on the dead letters of one generation."""

    def __init__(self, connection: Connection, writer: GenerationWriter, options: Options) -> None:
        self._connection = connection
        self._writer = writer
        self._options = options
        self._run_id = str(uuid_utils.uuid7())

    async def redrive(self, chosen: LetterFilter, progress: Progress = lambda _: None) -> list[Dealt]:
        """Applies the chosen letters and what waits behind them, in order for each key. Twice applies once.

        A letter that still cannot be applied stops its key; the others go on. Raises RedriveError.
        """
        chosen = msgspec.structs.replace(chosen, state="parked")
        keys: dict[Place, dict[bytes, int]] = {}

        async def chunk(connection: Connection, place: Place, after: int, size: int) -> list[Dealt]:
            here = _in(chosen, place)
            if place not in keys:
                found = await connection.fetch(self._sql(CHOSEN_KEYS), *here.arguments())
                keys[place] = {row["key"]: row["first"] for row in found}
            first = keys[place]
            rows = await connection.fetch(
                self._sql(NEXT_OF_CHOSEN_KEYS), *here.arguments(), list(first), list(first.values()), after, size
            )
            return await self._apply(connection, place, [letter_of(row) for row in rows], first)

        return await self._run("dlq redrive", chosen, chunk, progress)

    async def discard(self, chosen: LetterFilter, progress: Progress = lambda _: None) -> list[Dealt]:
        """Gives the chosen letters up. Those behind them stay parked until they are redriven. Raises RedriveError."""
        chosen = msgspec.structs.replace(chosen, state="parked")

        async def chunk(connection: Connection, place: Place, after: int, size: int) -> list[Dealt]:
            rows = await connection.fetch(self._sql(NEXT_CHOSEN), *_in(chosen, place).arguments(), after, size)
            offsets = [row["kafka_offset"] for row in rows]
            await connection.execute(self._sql(RESOLVE), *place, offsets, "discarded", self._options.actor, 0)
            return [Dealt(*place, offset, "discarded") for offset in offsets]

        return await self._run("dlq discard", chosen, chunk, progress)

    def _sql(self, statement: str) -> str:
        return statement.format(generation=self._writer.generation)

    async def _run(self, action: str, chosen: LetterFilter, chunk: Chunk, progress: Progress) -> list[Dealt]:
        try:
            if not self._options.dry_run:
                return await self._chunks(action, chosen, chunk, progress)
            undone = self._connection.transaction()
            await undone.start()
            try:  # one transaction over all partitions: a letter's outcome may depend on another's
                return await self._chunks(action, chosen, chunk, progress)
            finally:
                await undone.rollback()
        except BUSY as error:
            raise RedriveError("A partition is busy; what was done before stays done. Try again.") from error

    async def _chunks(self, action: str, chosen: LetterFilter, chunk: Chunk, progress: Progress) -> list[Dealt]:
        filters = {"run": self._run_id, "generation": self._writer.generation, "filter": msgspec.to_builtins(chosen)}
        await self._journal(action, {**filters, "limit": self._options.limit, "rate": self._options.rate})
        places = await self._connection.fetch(self._sql(WHERE_CHOSEN), *chosen.arguments())
        rate = _RedriveRate(self._options.rate)
        dealt: list[Dealt] = []
        for place in ((row["topic"], row["partition"]) for row in places):
            after = -1
            while (size := min(rate.chunk, self._options.limit - len(dealt))) > 0:
                try:
                    done = await self._transaction(action, place, chunk, after, size)
                except Exception as error:
                    if kind_of(error) is not Failure.TOO_MUCH or size == 1:
                        raise
                    rate.chunk = size // 2  # that transaction is undone
                    continue
                dealt += done
                progress(len(done))
                if len(done) < size:
                    break
                after = done[-1].offset
                await self._keep(rate, len(dealt))
        return dealt

    async def _keep(self, rate: "_RedriveRate", done: int) -> None:
        if not self._options.dry_run:
            await rate.keep(done)

    async def _transaction(self, action: str, place: Place, chunk: Chunk, after: int, size: int) -> list[Dealt]:
        async for attempt in stamina.retry_context(on=BUSY, attempts=5, wait_initial=0.1, wait_max=2.0):
            with attempt:
                async with self._connection.transaction():
                    await self._connection.execute(LOCK_TIMEOUT)
                    await self._connection.execute(self._sql(TAKE), *place)
                    done = await chunk(self._connection, place, after, size)
                    if done:
                        counts = counts_of(done)
                        detail = {"run": self._run_id, "topic": place[0], "partition": place[1], "counts": counts}
                        await self._journal(action, detail)
                if done and not self._options.dry_run:
                    await tell_readers(self._connection)
                return done
        raise AssertionError  # the last attempt raises

    async def _journal(self, action: str, detail: dict[str, Any]) -> None:
        await self._connection.execute(JOURNAL, self._options.actor, action, msgspec.json.encode(detail).decode())

    async def _apply(
        self, connection: Connection, place: Place, letters: list[Letter], chosen: dict[bytes, int]
    ) -> list[Dealt]:
        keys = {letter.key for letter in letters if letter.key}
        found = await connection.fetch(self._sql(FIRST_PARKED), *place, list(keys))
        parked = {row["record_key"]: row["first"] for row in found}
        # The first parked letter of a key is either about to be tried, or holds up all that follow.
        here = {letter.offset for letter in letters}
        stuck = {key: first for key, first in parked.items() if first not in here}
        outcomes = await attempt_letters(connection, self._writer, letters, stuck)
        await self._write_down(connection, place, outcomes)
        return [
            Dealt(*place, letter.offset, _named(letter, outcome, chosen), getattr(outcome, "error_message", None))
            for letter, outcome in outcomes
        ]

    async def _write_down(self, connection: Connection, place: Place, outcomes: Tried) -> None:
        applied = [letter for letter, outcome in outcomes if isinstance(outcome, str)]
        still = [(letter, why) for letter, why in outcomes if isinstance(why, Diagnosis)]
        offsets = [letter.offset for letter in applied]
        await connection.execute(self._sql(RESOLVE), *place, offsets, "redriven", self._options.actor, 1)
        came = [letter.offset for letter, outcome in outcomes if outcome == "stored"]
        await connection.execute(self._sql(late_events.ADD), *place, came)
        # A letter with a cause of its own keeps it while it waits behind another.
        said = [(letter, why) for letter, why in still if why.cause != "behind" or letter.cause == "behind"]
        await connection.execute(
            self._sql(DIAGNOSE),
            *place,
            [letter.offset for letter, _ in said],
            [int(why.cause != "behind") for _, why in said],
            [why.cause for _, why in said],
            [why.error_class for _, why in said],
            [why.error_message for _, why in said],
            [why.behind_offset for _, why in said],
        )
        malformed = sum(letter.cause == "behind" and why.cause != "behind" for letter, why in still)
        malformed -= sum(letter.cause != "behind" for letter in applied)
        await connection.execute(self._sql(COUNT), *place, len(came), len(applied) - len(came), malformed)


class _RedriveRate:
    """Keeps a run at its rate, letters a second, from chunk to chunk."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._started = time.monotonic()
        self.chunk = CHUNK if rate is None else max(1, min(CHUNK, int(rate)))

    async def keep(self, done: int) -> None:
        if self._rate is not None:
            await asyncio.sleep(self._started + done / self._rate - time.monotonic())


def counts_of(dealt: Iterable[Dealt]) -> dict[Outcome, int]:
    """How many letters had each outcome."""
    return dict(Counter(letter.outcome for letter in dealt))


def _in(chosen: LetterFilter, place: Place) -> LetterFilter:
    return msgspec.structs.replace(chosen, topic=place[0], partition=place[1])


def _named(letter: Letter, outcome: Literal["stored", "duplicate"] | Diagnosis, chosen: dict[bytes, int]) -> Outcome:
    """A letter that waits behind one which was not chosen is blocked: this run could not have applied it."""
    if isinstance(outcome, str):
        return outcome
    if not letter.key or outcome.behind_offset is None or outcome.behind_offset >= chosen[letter.key]:
        return outcome.cause
    return "blocked"
