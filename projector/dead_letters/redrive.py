"""Redrives or discards dead letters for an operator, while projectors keep running (docs/dead-letters.md).

Each transaction handles one chunk of letters of one partition. It raises the epoch of the partition's checkpoint. That
fences the owner's batch in progress, so nobody else writes rows of this partition, and makes the owner load its parked
letters again. The letters then go through the same code as a batch.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, TypeAlias

import asyncpg
import msgspec
import stamina
import uuid_utils

from contracts.event import DEFAULT_TENANT
from projector.dead_letters import redrive_statements as sql
from projector.dead_letters.letter_filter import LetterFilter
from projector.dead_letters.redrive_attempt import Attempts, Letter, RedriveError, attempt_letters, letter_of
from projector.dead_letters.redrive_rate import RedriveRate
from projector.dead_letters.tracing import RedriveTrace
from projector.privacy.erased_users import erased_in, users_of_record
from projector.privacy.letters import empty_letters
from projector.sealed.letters import opened_letters
from projector.sealed.opener import UNSEALED, Opener, Unsealed
from projector.writing.commit import GenerationWriter
from projector.writing.failure import Diagnosis, Failure, kind_of
from read_model.connecting.pool import Connection
from read_model.progress import notify_readers
from read_model.pseudonyms import pseudonym, pseudonym_key
from read_model.tables import late_events

CHUNK = 500  # letters at most in one transaction; the partition's owner waits for it
ERASED = "Its user was erased after this record."
BUSY = (asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError)  # the transaction is rolled back; try again

# The outcome of one letter. `blocked`: an earlier parked letter of its key was not chosen.
Outcome: TypeAlias = Literal["stored", "duplicate", "poison", "newer_version", "behind", "blocked", "discarded"]
Progress: TypeAlias = Callable[[int], None]  # called with the number of letters of each finished chunk
Partition: TypeAlias = tuple[str, int]  # topic and partition


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a run.

    `actor`: the operator, for the journal. `audited_as`: for the audit log, if that says more. `limit`: letters at
    most. `rate`: letters a second; None: no limit. `dry_run`: roll everything back at the end.
    """

    actor: str
    audited_as: str = ""
    limit: int = 1_000
    rate: float | None = None
    dry_run: bool = False


class LetterOutcome(msgspec.Struct, frozen=True):
    """The outcome of one letter. `reason`: why it is still parked, if it is."""

    topic: str
    partition: int
    offset: int
    outcome: Outcome
    reason: str | None = None


Outcomes: TypeAlias = list[LetterOutcome]
# Handles one chunk of a partition's letters: those after an offset, up to a number of letters.
Chunk: TypeAlias = Callable[[Connection, Partition, int, int], Awaitable[Outcomes]]


async def active_generation(connection: Connection) -> str:
    """Returns the name of the generation that queries see."""
    found: str = await connection.fetchval(sql.ACTIVE)
    return found


class Redrive:
    """Redrives or discards dead letters of one generation for an operator."""

    def __init__(
        self, connection: Connection, writer: GenerationWriter, options: Options, opener: Opener | Unsealed = UNSEALED
    ) -> None:
        self._opener = opener
        self._connection = connection
        self._writer = writer
        self._options = options
        self._trace = RedriveTrace(str(uuid_utils.uuid7()))

    async def redrive(self, chosen: LetterFilter, progress: Progress = lambda _: None) -> Outcomes:
        """Applies the chosen letters and the letters that wait behind them, in order for each key.

        A letter that still cannot be applied stops its key; other keys continue. Running it twice applies each event
        once.

        Args:
            chosen: selects the letters; its `state` is ignored, because only parked letters are redriven.
            progress: called after each chunk.

        Returns:
            The outcome of each letter.

        Raises:
            RedriveError: the run ended early; the chunks before stay committed.
        """
        chosen = msgspec.structs.replace(chosen, state="parked")
        keys: dict[Partition, dict[bytes, int]] = {}

        async def chunk(connection: Connection, partition: Partition, after: int, size: int) -> Outcomes:
            here = msgspec.structs.replace(chosen, topic=partition[0], partition=partition[1])
            if partition not in keys:
                found = await connection.fetch(self._sql(sql.CHOSEN_KEYS), *here.arguments())
                keys[partition] = {row["key"]: row["first"] for row in found}
            first = keys[partition]
            rows = await self._next(connection, here, first, after, size)
            raw = self._trace.began([letter_of(row) for row in rows])
            letters = await opened_letters(self._opener, raw, connection)
            erased = await self._erased(connection, partition, letters)
            done = await self._apply(connection, partition, [one for one in letters if one.offset not in erased], first)
            gone = [LetterOutcome(*partition, offset, "discarded", ERASED) for offset in erased]
            return sorted([*done, *gone], key=lambda outcome: outcome.offset)

        return await self._run("dlq redrive", chosen, chunk, progress)

    async def _next(
        self, connection: Connection, here: LetterFilter, first: dict[bytes, int], after: int, size: int
    ) -> list[Any]:
        """Returns the next letters that are chosen and, if they have an order, those that wait behind them."""
        if not self._writer.ordered:
            return list(await connection.fetch(self._sql(sql.NEXT_CHOSEN), *here.arguments(), after, size))
        keys = list(first), list(first.values())
        return list(await connection.fetch(self._sql(sql.NEXT_OF_CHOSEN_KEYS), *here.arguments(), *keys, after, size))

    async def discard(self, chosen: LetterFilter, progress: Progress = lambda _: None) -> Outcomes:
        """Discards the chosen letters. The letters behind them stay parked until they are redriven.

        Arguments, result and errors are those of `redrive`.
        """
        chosen = msgspec.structs.replace(chosen, state="parked")

        async def chunk(connection: Connection, partition: Partition, after: int, size: int) -> Outcomes:
            here = msgspec.structs.replace(chosen, topic=partition[0], partition=partition[1])
            rows = await connection.fetch(self._sql(sql.NEXT_CHOSEN), *here.arguments(), after, size)
            offsets = [row["kafka_offset"] for row in rows]
            await connection.execute(self._sql(sql.RESOLVE), *partition, offsets, "discarded", self._options.actor, 0)
            return [LetterOutcome(*partition, offset, "discarded") for offset in offsets]

        return await self._run("dlq discard", chosen, chunk, progress)

    async def _erased(self, connection: Connection, partition: Partition, letters: list[Letter]) -> list[int]:
        """Empties the letters of users who were erased after their record; returns their offsets.

        The marker has emptied those that it could read; another version may read more.
        """
        users = await erased_in(connection, *partition)
        found = [
            letter.offset
            for letter in letters
            if letter.offset < users.last
            and any(users.is_erased(user, letter.offset) for user in users_of_record(letter.key, letter.value))
        ]
        topic, number = partition
        await empty_letters(connection, self._writer.generation, topic, [(number, offset) for offset in found])
        return found

    def _sql(self, statement: str) -> str:
        return statement.format(generation=self._writer.generation)

    async def _run(self, action: str, chosen: LetterFilter, chunk: Chunk, progress: Progress) -> Outcomes:
        try:
            if not self._options.dry_run:
                return await self._chunks(action, chosen, chunk, progress)
            undone = self._connection.transaction()
            await undone.start()
            try:  # one transaction over all partitions: the outcome of one letter may depend on another letter
                return await self._chunks(action, chosen, chunk, progress)
            finally:
                await undone.rollback()
        except BUSY as error:
            raise RedriveError("A partition is busy. The letters finished so far stay finished. Try again.") from error

    async def _chunks(self, action: str, chosen: LetterFilter, chunk: Chunk, progress: Progress) -> Outcomes:
        named = msgspec.to_builtins(chosen)
        if chosen.user is not None:  # the journal is kept when a user is erased
            secret = await pseudonym_key(self._connection)
            named["user"] = f"pseudonym:{pseudonym(secret, chosen.tenant or DEFAULT_TENANT, chosen.user).hex()}"
        filters = {"run": self._trace.run_id, "generation": self._writer.generation, "filter": named}
        await self._journal(action, {**filters, "limit": self._options.limit, "rate": self._options.rate})
        partitions = await self._connection.fetch(self._sql(sql.WHERE_CHOSEN), *chosen.arguments())
        rate = RedriveRate(self._options.rate, CHUNK)
        outcomes: Outcomes = []
        for partition in ((row["topic"], row["partition"]) for row in partitions):
            after = -1
            while (size := min(rate.chunk, self._options.limit - len(outcomes))) > 0:
                try:
                    done = await self._transaction(action, partition, chunk, after, size)
                except Exception as error:
                    if kind_of(error) is not Failure.TOO_MUCH or size == 1:
                        raise
                    rate.chunk = size // 2  # the transaction is rolled back; try a smaller chunk
                    continue
                outcomes += done
                progress(len(done))
                if len(done) < size:
                    break
                after = done[-1].offset
                await self._throttle(rate, len(outcomes))
        return outcomes

    async def _throttle(self, rate: RedriveRate, done: int) -> None:
        if not self._options.dry_run:
            await rate.throttle(done)

    async def _transaction(self, action: str, partition: Partition, chunk: Chunk, after: int, size: int) -> Outcomes:
        async for attempt in stamina.retry_context(on=BUSY, attempts=5, wait_initial=0.1, wait_max=2.0):
            with attempt:
                async with self._connection.transaction():
                    await self._connection.execute(sql.LOCK_TIMEOUT)
                    await self._connection.execute(self._sql(sql.FENCE), *partition)
                    done = await chunk(self._connection, partition, after, size)
                    if done:
                        (topic, number), counts = partition, counts_of(done)
                        detail = {"run": self._trace.run_id, "topic": topic, "partition": number, "counts": counts}
                        await self._journal(action, detail)
                if done and not self._options.dry_run:
                    await notify_readers(self._connection)
                    self._trace.committed(partition[0], {each.offset: each.outcome for each in done})
                return done
        raise AssertionError  # the last attempt raises

    async def _journal(self, action: str, detail: dict[str, Any]) -> None:
        await self._connection.execute(sql.JOURNAL, self._options.actor, action, msgspec.json.encode(detail).decode())

    async def _apply(
        self, connection: Connection, partition: Partition, letters: list[Letter], chosen: dict[bytes, int]
    ) -> Outcomes:
        stuck = await self._stuck(connection, partition, letters) if self._writer.ordered else None
        outcomes = await attempt_letters(connection, self._writer, letters, stuck)
        await self._store(connection, partition, outcomes)
        return [
            LetterOutcome(
                *partition, letter.offset, _outcome_of(letter, outcome, chosen), getattr(outcome, "error_message", None)
            )
            for letter, outcome in outcomes
        ]

    async def _stuck(self, connection: Connection, partition: Partition, letters: list[Letter]) -> dict[bytes, int]:
        """Returns the keys that wait for a letter that is not among these, with its offset."""
        keys = {letter.key for letter in letters if letter.key}
        found = await connection.fetch(self._sql(sql.FIRST_PARKED), *partition, list(keys))
        # The first parked letter of a key is either in this chunk, or it blocks the later letters of the key.
        here = {letter.offset for letter in letters}
        return {row["record_key"]: row["first"] for row in found if row["first"] not in here}

    async def _store(self, connection: Connection, partition: Partition, outcomes: Attempts) -> None:
        applied = [letter for letter, outcome in outcomes if isinstance(outcome, str)]
        failed = [(letter, why) for letter, why in outcomes if isinstance(why, Diagnosis)]
        offsets = [letter.offset for letter in applied]
        await connection.execute(self._sql(sql.RESOLVE), *partition, offsets, "redriven", self._options.actor, 1)
        stored = [letter.offset for letter, outcome in outcomes if outcome == "stored"]
        if self._writer.ordered:  # else nobody reads what it writes by its place in the log
            await connection.execute(self._sql(late_events.ADD), *partition, stored)
        # A letter with a cause of its own keeps that cause while it waits behind another letter.
        diagnosed = [(letter, why) for letter, why in failed if why.cause != "behind" or letter.cause == "behind"]
        await connection.execute(
            self._sql(sql.DIAGNOSE),
            *partition,
            [letter.offset for letter, _ in diagnosed],
            [int(why.cause != "behind") for _, why in diagnosed],
            [why.cause for _, why in diagnosed],
            [why.error_class for _, why in diagnosed],
            [why.error_message for _, why in diagnosed],
            [why.behind_offset for _, why in diagnosed],
        )
        malformed = sum(letter.cause == "behind" and why.cause != "behind" for letter, why in failed)
        malformed -= sum(letter.cause != "behind" for letter in applied)
        await connection.execute(self._sql(sql.COUNT), *partition, len(stored), len(applied) - len(stored), malformed)


def counts_of(outcomes: Iterable[LetterOutcome]) -> dict[Outcome, int]:
    """Counts the letters by outcome."""
    return dict(Counter(letter.outcome for letter in outcomes))


def _outcome_of(
    letter: Letter, outcome: Literal["stored", "duplicate"] | Diagnosis, chosen: dict[bytes, int]
) -> Outcome:
    """Returns a letter's outcome. A letter behind one that was not chosen is blocked: this run could not apply it."""
    if isinstance(outcome, str):
        return outcome
    if not letter.key or outcome.behind_offset is None or outcome.behind_offset >= chosen[letter.key]:
        return outcome.cause
    return "blocked"
