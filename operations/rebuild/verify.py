"""Compares the generation that is being built with the serving generation, at the same log positions.

1. The build is held at the positions of the serving generation, which moves on a little meanwhile.
2. A lock on its checkpoints stops the serving generation.
3. The build catches up to exactly these positions.
4. A snapshot of both is taken, and both go on.

So the serving generation stops only while the build catches up, not during the comparison. If the positions in the
snapshot differ after all, the snapshot is thrown away and everything begins again.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from operations.privacy.retention import forget
from operations.rebuild.operator import Operator
from operations.refusal import RefusedError
from read_model.generations.comparison import TableComparison, compare_table
from read_model.generations.register import hold, positions, release, set_verified, write_journal
from read_model.generations.schema import tables_of

ROUNDS = 5  # attempts to bring both to the same positions
SETTLE = 1.5  # seconds without movement; longer than the projectors' watch interval, so that each knows of a hold
HOLD_SECONDS = 60.0  # a hold expires by itself, in case this process is killed
STAND_STILL = 5.0  # seconds for which the serving generation may be stopped at most
POLL = 0.02  # seconds

LOCK_CHECKPOINTS = "LOCK TABLE {generation}.checkpoints IN SHARE ROW EXCLUSIVE MODE"
CLEAR_VERIFIED = "UPDATE ops.generations SET verified = NULL, verified_at = NULL WHERE name = $1"

Report = Callable[[str], None]


@dataclass(frozen=True)
class Verification:
    """The result of a comparison.

    `at`: the offset of each partition at which both were compared. `stood_still`: seconds for which the serving
    generation was stopped. `seconds`: duration of the whole verification.
    """

    old: str
    new: str
    at: Mapping[int, int]
    tables: list[TableComparison]
    skipped: list[str]
    stood_still: float
    seconds: float

    @property
    def equal(self) -> bool:
        """Whether every compared table is equal. False if no table was compared."""
        return bool(self.tables) and all(table.equal for table in self.tables)


async def verify(
    operator: Operator, *, patience: float = 300.0, skip: tuple[str, ...] = (), report: Report = lambda _: None
) -> Verification:
    """Compares the build, or else the standby, with the active generation and records the outcome in the register.

    Args:
        operator: The operator at work.
        patience: Seconds for both to reach the same positions.
        skip: Tables that are not compared.
        report: Called with a sentence for each step.

    Raises:
        RefusedError: There is nothing to compare, or the two did not reach the same positions in time.
    """
    began = time.monotonic()
    old = await operator.active()
    new = await operator.find("building", "paused", "standby")
    if new is None:
        raise RefusedError("There is nothing to verify. Begin with: footfall rebuild start")
    if new.state == "paused":
        raise RefusedError(f"{new.name} is paused. First: footfall rebuild resume")
    if not await operator.same_history(old.name, new.name):
        raise RefusedError(
            f"{new.name} is built from another history of {operator.topic} than {old.name}, so there is nothing to "
            "compare. To let queries see it instead of the old history: footfall rebuild promote --force"
        )
    snapshot = await operator.connect()
    try:
        deadline = began + patience
        at, stood_still = await _snapshot_at_same_offsets(operator, old.name, new.name, snapshot, deadline, report)
        tables = []
        for table in await tables_of(snapshot, old.name):
            if table not in skip:
                report(f"comparing {table}")
                tables.append(await compare_table(snapshot, old.name, new.name, table))
    finally:
        await snapshot.close()
    found = Verification(old.name, new.name, at, tables, sorted(skip), stood_still, time.monotonic() - began)
    await _record_outcome(operator, found)
    return found


async def _record_outcome(operator: Operator, found: Verification) -> None:
    async with operator.connection.transaction():
        if found.equal:
            await set_verified(operator.connection, found.new, found.at)
        else:
            await operator.connection.execute(CLEAR_VERIFIED, found.new)
        detail = {
            "old": found.old,
            "new": found.new,
            "at": dict(found.at),
            "equal": found.equal,
            "skipped": found.skipped,
            "differing": {t.table: [bucket.number for bucket in t.differing] for t in found.tables if not t.equal},
        }
        await write_journal(operator.connection, operator.name, "rebuild verify", detail)


async def _snapshot_at_same_offsets(
    operator: Operator, old: str, new: str, snapshot: asyncpg.Connection, deadline: float, report: Report
) -> tuple[dict[int, int], float]:
    """Begins a transaction on `snapshot` in which both generations are at the same offsets.

    Returns:
        These offsets, and the seconds for which the serving generation was stopped.
    """
    try:
        for attempt in range(1, ROUNDS + 1):
            report(f"holding {new} where {old} stands (try {attempt})")
            await _hold_close_behind(operator, old, new, deadline)
            await forget(operator.connection, (old, new))  # what one has forgotten, the log still has
            began = time.monotonic()
            try:
                async with _serving_stopped(operator, old) as target:
                    at = await _begin_snapshot_at(operator, old, new, target, snapshot)
            except asyncpg.LockNotAvailableError:  # a long transaction holds the table: try again when it has ended
                continue
            if at is not None:
                return at, time.monotonic() - began
        raise RefusedError(
            f"{old} and {new} did not reach the same offsets in {ROUNDS} tries. See whether all projectors are well: "
            "footfall status"
        )
    finally:
        await release(operator.connection, new)


async def _hold_close_behind(operator: Operator, old: str, new: str, deadline: float) -> None:
    """Returns once the build is held at most a few seconds behind the serving generation in every partition."""
    took = math.inf
    while took > 3 * SETTLE:  # the serving generation moved on while the build caught up: repeat until little is left
        began = time.monotonic()
        await _hold_at(operator, old, new, deadline)
        took = time.monotonic() - began


async def _hold_at(operator: Operator, old: str, new: str, deadline: float) -> None:
    target = await positions(operator.connection, old, operator.topic)
    seen: Mapping[int, int] = {}
    moved_at = held_at = -math.inf
    while True:
        now = time.monotonic()
        if now - held_at > HOLD_SECONDS / 3:
            await hold(operator.connection, new, target, HOLD_SECONDS)
            held_at = now
        stands = await positions(operator.connection, new, operator.topic)
        if stands != seen:
            moved_at, seen = now, stands
        behind = {p: offset for p, offset in target.items() if stands.get(p, 0) < offset}
        if not behind and now - moved_at >= SETTLE and await _has_passed(operator, old, stands):
            return
        if now > deadline:
            raise RefusedError(_timeout_sentence(behind, stands, old, new))
        await asyncio.sleep(POLL)


def _timeout_sentence(behind: Mapping[int, int], stands: Mapping[int, int], old: str, new: str) -> str:
    if not behind:
        return f"{old} does not keep up with the log, so {new} could not be held where it stands."
    where = ", ".join(f"partition {p} stands at {stands.get(p, 0):,} of {offset:,}" for p, offset in behind.items())
    return f"{new} did not get to where {old} stands: {where}. Look at: footfall rebuild status"


async def _has_passed(operator: Operator, old: str, stands: Mapping[int, int]) -> bool:
    ahead = await positions(operator.connection, old, operator.topic)
    return all(ahead.get(p, 0) >= offset for p, offset in stands.items())


@asynccontextmanager
async def _serving_stopped(operator: Operator, old: str) -> AsyncIterator[dict[int, int]]:
    """Stops the serving generation for the body, and yields its offsets. Raises LockNotAvailableError."""
    locker = await operator.connect()
    try:
        await locker.execute("BEGIN; SET LOCAL lock_timeout = '2s'")
        await locker.execute(LOCK_CHECKPOINTS.format(generation=old))
        yield await positions(locker, old, operator.topic)
        await locker.execute("ROLLBACK")
    finally:
        await locker.close()


async def _begin_snapshot_at(
    operator: Operator, old: str, new: str, target: Mapping[int, int], snapshot: asyncpg.Connection
) -> dict[int, int] | None:
    """Lets the build catch up to exactly `target` and begins the snapshot's transaction there.

    Returns:
        The offsets in the snapshot; None if the build was not there within `STAND_STILL`.
    """
    await hold(operator.connection, new, target, HOLD_SECONDS)
    deadline = time.monotonic() + STAND_STILL
    while not _same(await positions(operator.connection, new, operator.topic), target):
        if time.monotonic() > deadline:
            return None
        await asyncio.sleep(POLL)
    await snapshot.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    at = await positions(snapshot, old, operator.topic)
    if _same(at, target) and _same(await positions(snapshot, new, operator.topic), target):
        return at
    await snapshot.execute("ROLLBACK")
    return None


def _same(some: Mapping[int, int], others: Mapping[int, int]) -> bool:
    """Whether the positions are the same. A partition without a checkpoint is at offset 0."""
    return all(some.get(p, 0) == others.get(p, 0) for p in some.keys() | others.keys())
