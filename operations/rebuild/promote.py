"""Promotes a generation, or rolls back: one transaction points every view at another generation."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

from operations.privacy.retention import forget
from operations.rebuild.lifecycle import analyze
from operations.rebuild.operator import Operator, as_deed
from operations.refusal import RefusedError
from read_model.connecting.pool import Connection
from read_model.generations.register import Generation, positions, write_journal
from read_model.generations.schema import GenerationInUseError, point_views_at
from read_model.names import READ
from read_model.progress import notify_readers
from read_model.tables import late_events

MAX_LAG = 1_000  # events behind the end of the log, at most; the default
LOCK_PATIENCE_MS = 200  # milliseconds to wait for the lock of each view; new queries queue behind us meanwhile
RETRY_DELAY = 0.5  # seconds between tries, so that the queries that queued can run
CATCH_UP = 2.0  # seconds for the new generation to pass the point at which the old one was stopped
POLL = 0.005  # seconds

SWAP = """
UPDATE ops.generations SET
    state = CASE name WHEN $1 THEN 'standby' ELSE 'active' END,
    demoted_at = CASE name WHEN $1 THEN now() ELSE demoted_at END,
    promoted_at = CASE name WHEN $2 THEN now() ELSE promoted_at END,
    max_rate = NULL, holds = NULL, held_until = NULL
WHERE name IN ($1, $2)
"""
# Dead letters that the old generation published are not published again.
COPY_PUBLISHED = """
UPDATE {new}.dead_letters AS mine SET published_at = theirs.published_at
FROM {old}.dead_letters AS theirs
WHERE mine.published_at IS NULL AND theirs.published_at IS NOT NULL
  AND (mine.kafka_topic, mine.kafka_partition, mine.kafka_offset)
    = (theirs.kafka_topic, theirs.kafka_partition, theirs.kafka_offset)
"""
VIEW_READERS = """
SELECT DISTINCT format('%s (%s)', a.pid, a.application_name) AS who
FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation JOIN pg_stat_activity AS a USING (pid)
WHERE c.relnamespace = $1::regnamespace AND l.granted AND a.pid <> pg_backend_pid()
"""


@dataclass(frozen=True)
class Switch:
    """A finished switch. `seconds`: duration of the transaction that made it. `tries`: how many it took."""

    old: str
    new: str
    views: list[str]
    seconds: float
    tries: int

    def __str__(self) -> str:
        return f"{self.old} to {self.new}"


class _BehindError(Exception):
    """The new generation has not reached the position of the serving one."""

    def __init__(self, partition: int, stands: int, wanted: int) -> None:
        super().__init__(f"partition {partition} stands at {stands}, and queries have seen {wanted}")


@as_deed("rebuild promote", str)
async def promote(operator: Operator, *, force: bool = False, max_lag: int = MAX_LAG, patience: float = 60.0) -> Switch:
    """Lets queries see the generation that was built. The old one is kept up to date as standby.

    Args:
        operator: The operator at work.
        force: Skips the checks named under Raises.
        max_lag: Events behind the end of the log, at most.
        patience: Seconds to wait for queries that read the views.

    Raises:
        RefusedError: The generation is not verified, lags more than `max_lag`, or is behind what queries have seen;
            or queries held the views for longer than `patience`.
    """
    new = await operator.under_construction()
    if new.state == "paused":
        raise RefusedError(f"{new.name} is paused. First: footfall rebuild resume")
    if not force:
        if new.verified is None:
            raise RefusedError(f"{new.name} is not verified. First: footfall rebuild verify (or promote with --force)")
        await _refuse_lagging(operator, new, max_lag)
    return await _switch(operator, new, "rebuild promote", force, patience)


@as_deed("rebuild rollback", str)
async def rollback(
    operator: Operator, *, force: bool = False, max_lag: int = MAX_LAG, patience: float = 60.0
) -> Switch:
    """Lets queries see the standby again. Arguments and errors are those of `promote`; no verification is needed."""
    standby = await operator.find("standby")
    if standby is None:
        raise RefusedError("There is no standby to roll back to: nothing was promoted, or it was dropped.")
    if not force:
        await _refuse_lagging(operator, standby, max_lag)
    return await _switch(operator, standby, "rebuild rollback", force, patience)


async def _refuse_lagging(operator: Operator, new: Generation, max_lag: int) -> None:
    lag = await operator.lag(new.name)
    if lag > max_lag:
        raise RefusedError(
            f"{new.name} is {lag:,} events behind the end of the log; at most {max_lag:,} are allowed. Wait until it "
            "has caught up; to see how far it is: footfall rebuild status"
        )


async def _switch(operator: Operator, new: Generation, action: str, force: bool, patience: float) -> Switch:
    """Tries again and again until no query holds the views: so a long query delays the switch, not other queries."""
    old = await operator.active()
    if not force and not await operator.same_history(old.name, new.name):
        raise RefusedError(
            f"{new.name} is built from another history of {operator.topic} than {old.name}: events that queries show "
            f"now would be gone, and readers of the feed would have to begin again. If you want that: footfall "
            f"{action} --force"
        )
    await forget(operator.connection, (new.name,))  # queries never see what is too old
    await analyze(operator, new.name)
    deadline, tries = time.monotonic() + patience, 0
    while True:
        tries += 1
        began = time.monotonic()
        try:
            views = await _switch_once(operator, old.name, new.name, action, force)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, _BehindError) as error:
            if time.monotonic() > deadline:
                raise RefusedError(await _timeout_sentence(operator, error)) from error
            await asyncio.sleep(RETRY_DELAY)
        except GenerationInUseError as error:
            raise RefusedError(f"{error}.") from error
        else:
            await notify_readers(operator.connection)
            return Switch(old.name, new.name, views, time.monotonic() - began, tries)


async def _switch_once(operator: Operator, old: str, new: str, action: str, force: bool) -> list[str]:
    connection = operator.connection
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = {LOCK_PATIENCE_MS}")
        # This lock stops the old generation, so that the new one has a fixed position to pass.
        await connection.execute(f"LOCK TABLE {old}.checkpoints IN SHARE ROW EXCLUSIVE MODE")
        seen = await positions(connection, old, operator.topic)
        if not force:
            await _wait_until_passed(connection, new, operator.topic, seen)
        await connection.execute(COPY_PUBLISHED.format(old=old, new=new))
        if await operator.same_history(old, new):
            await connection.execute(late_events.PROMOTED.format(old=old, new=new))
        else:  # the ledger of late events numbers events of a history that the feed no longer serves
            await connection.execute(late_events.FORGET, operator.topic)
        await connection.execute(SWAP, old, new)
        await write_journal(connection, operator.name, action, {"old": old, "new": new, "forced": force, "seen": seen})
        return await point_views_at(connection, old, new)  # last, because queries wait from here to the commit


async def _wait_until_passed(connection: Connection, new: str, topic: str, seen: Mapping[int, int]) -> None:
    deadline = time.monotonic() + CATCH_UP
    while True:
        stands = await positions(connection, new, topic)
        behind = [p for p, offset in seen.items() if stands.get(p, 0) < offset]
        if not behind:
            return
        if time.monotonic() > deadline:
            raise _BehindError(behind[0], stands.get(behind[0], 0), seen[behind[0]])
        await asyncio.sleep(POLL)


async def _timeout_sentence(operator: Operator, error: Exception) -> str:
    if isinstance(error, _BehindError):
        return f"The generation does not keep up: {error}. Look at: footfall rebuild status"
    readers = [row["who"] for row in await operator.connection.fetch(VIEW_READERS, READ)]
    return f"Queries read the views all the time, now by session {', '.join(readers) or '(gone)'}. Try again later."
