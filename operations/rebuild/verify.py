"""Verification: the generation that is built and the one that serves, compared at the same log positions.

The build is held where the other stands, a little later (it stands still then); the serving generation is stopped by a
lock on its checkpoints; the build goes on to exactly there; a snapshot of both is taken, and both go on. So the serving
generation stands still for the moment in which the build makes up that little, and not for the comparison. Nothing is
taken on trust: a snapshot in which the positions differ is thrown away, and all begins anew.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from operations.rebuild.lifecycle import Operator, RefusedError
from read_model.generations.comparison import TableComparison, compare_table
from read_model.generations.register import hold, note, positions, release, set_verified
from read_model.generations.schema import tables_of

ROUNDS = 5
SETTLE = 1.5  # seconds without movement, longer than the projectors' watch interval: then all know of a hold
HOLD_SECONDS = 60.0  # a hold ends by itself, should we be killed
STAND_STILL = 5.0  # seconds for which the serving generation may be stopped at most
POLL = 0.02  # seconds

STAND = "LOCK TABLE {generation}.checkpoints IN SHARE ROW EXCLUSIVE MODE"
UNVERIFY = "UPDATE ops.generations SET verified = NULL, verified_at = NULL WHERE name = $1"

Report = Callable[[str], None]


@dataclass(frozen=True)
class Verification:
    """What was compared, and at which offsets. `stood_still`: seconds for which the serving generation did."""

    old: str
    new: str
    at: Mapping[int, int]
    tables: list[TableComparison]
    skipped: list[str]
    stood_still: float
    seconds: float

    @property
    def equal(self) -> bool:
        """Whether every table is; nothing compared is nothing found equal."""
        return bool(self.tables) and all(table.equal for table in self.tables)


async def verify(
    operator: Operator, *, patience: float = 300.0, skip: tuple[str, ...] = (), report: Report = lambda _: None
) -> Verification:
    """Compares the build, or else the standby, with the active generation; writes the outcome into the register.

    `patience`: seconds to reach the same positions. Raises RefusedError when that takes longer, or is not possible.
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
            "compare. To let queries see it, and the old history no more: footfall rebuild promote --force"
        )
    snapshot = await operator.connect()
    try:
        at, stood_still = await _same_snapshot(operator, old.name, new.name, snapshot, began + patience, report)
        tables = []
        for table in await tables_of(snapshot, old.name):
            if table not in skip:
                report(f"comparing {table}")
                tables.append(await compare_table(snapshot, old.name, new.name, table))
    finally:
        await snapshot.close()
    found = Verification(old.name, new.name, at, tables, sorted(skip), stood_still, time.monotonic() - began)
    await _write_down(operator, found)
    return found


async def _write_down(operator: Operator, found: Verification) -> None:
    async with operator.connection.transaction():
        if found.equal:
            await set_verified(operator.connection, found.new, found.at)
        else:
            await operator.connection.execute(UNVERIFY, found.new)
        detail = {
            "old": found.old,
            "new": found.new,
            "at": dict(found.at),
            "equal": found.equal,
            "skipped": found.skipped,
            "differing": {t.table: [bucket.number for bucket in t.differing] for t in found.tables if not t.equal},
        }
        await note(operator.connection, operator.name, "rebuild verify", detail)


async def _same_snapshot(
    operator: Operator, old: str, new: str, snapshot: asyncpg.Connection, deadline: float, report: Report
) -> tuple[dict[int, int], float]:
    """Begins a transaction on `snapshot` in which both stand at the same offsets; returns them, and the seconds for
    which the serving generation stood still.
    """
    try:
        for attempt in range(1, ROUNDS + 1):
            report(f"holding {new} where {old} stands (try {attempt})")
            await _gather(operator, old, new, deadline)
            began = time.monotonic()
            try:
                async with _standing_still(operator, old) as target:
                    at = await _meet(operator, old, new, target, snapshot)
            except asyncpg.LockNotAvailableError:  # some long transaction: let it end
                continue
            if at is not None:
                return at, time.monotonic() - began
        message = f"{old} and {new} never stood at the same offsets, in {ROUNDS} tries. Are all projectors well?"
        raise RefusedError(message)
    finally:
        await release(operator.connection, new)


async def _gather(operator: Operator, old: str, new: str, deadline: float) -> None:
    """Until the build stands still, a moment behind the serving generation in every partition."""
    took = math.inf
    while took > 3 * SETTLE:  # while it caught up, the other went on: the rest is to be short
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
        if not behind and now - moved_at >= SETTLE and await _passed(operator, old, stands):
            return
        if now > deadline:
            raise RefusedError(_why_not(behind, stands, old, new))
        await asyncio.sleep(POLL)


def _why_not(behind: Mapping[int, int], stands: Mapping[int, int], old: str, new: str) -> str:
    if not behind:
        return f"{old} does not keep up with the log, so {new} could not be held where it stands."
    where = ", ".join(f"partition {p} stands at {stands.get(p, 0):,} of {offset:,}" for p, offset in behind.items())
    return f"{new} did not get to where {old} stands: {where}. Look at: footfall rebuild status"


async def _passed(operator: Operator, old: str, stands: Mapping[int, int]) -> bool:
    ahead = await positions(operator.connection, old, operator.topic)
    return all(ahead.get(p, 0) >= offset for p, offset in stands.items())


@asynccontextmanager
async def _standing_still(operator: Operator, old: str) -> AsyncIterator[dict[int, int]]:
    """The offsets at which the serving generation is stopped for the body. Raises LockNotAvailableError."""
    gate = await operator.connect()
    try:
        await gate.execute("BEGIN; SET LOCAL lock_timeout = '2s'")
        await gate.execute(STAND.format(generation=old))
        yield await positions(gate, old, operator.topic)
        await gate.execute("ROLLBACK")
    finally:
        await gate.close()


async def _meet(
    operator: Operator, old: str, new: str, target: Mapping[int, int], snapshot: asyncpg.Connection
) -> dict[int, int] | None:
    """Lets the build go on to exactly `target`, and begins the snapshot's transaction there; None if that fails."""
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
    """A partition without a checkpoint stands at 0."""
    return all(some.get(p, 0) == others.get(p, 0) for p in some.keys() | others.keys())
