"""Judges from facts whether a partition is being projected. Status, health, metrics and the watchdog use the verdict.

A verdict is never good because facts are missing. A partition is healthy when its log is read to the end, when its
checkpoint was seen to advance, or when it has not advanced for less than a stated patience (docs/decisions/0030).
"""

import msgspec

from projector.consuming.consumer_group import Group
from projector.liveness.verdicts import (
    PATIENCE,
    AssignedToForeigner,
    BlockedByTransaction,
    CaughtUp,
    Gone,
    HeldByOperator,
    Paused,
    Projecting,
    Stalled,
    Stopped,
    Unassigned,
    Unknown,
    Verdict,
    Waiting,
)


class PendingOperation(msgspec.Struct, frozen=True):
    """An operation in progress that is retried until it succeeds.

    `since`: seconds since the first attempt. `error`: the error of the last attempt. `tries`: the number of attempts.
    """

    what: str
    since: float
    error: str | None = None
    tries: int = 1


class Lock(msgspec.Struct, frozen=True):
    """A lock in PostgreSQL that a projector's session waits for.

    `table`: the locked table or lock type. `by`: the session that holds the lock. `since`: seconds of waiting.
    """

    table: str
    by: str
    since: float


class Facts(msgspec.Struct, frozen=True):
    """The facts about one partition in one generation. None means: unknown, or there is none.

    `advanced`: seconds since the checkpoint advanced. `next_age`: seconds since the next record's timestamp.
    `only_markers`: the offsets from the position to `readable` hold no records. `moved`: the checkpoint was just seen
    to advance. `open_since`: seconds since the oldest open transaction began.
    """

    generation: str
    generation_state: str
    projected: bool
    position: int | None
    beginning: int
    readable: int  # the last stable offset
    end: int  # the high watermark
    group: Group
    stopped: str | None = None
    limit: int | None = None
    advanced: float | None = None
    next_age: float | None = None
    only_markers: bool = False
    moved: bool = False
    open_since: float | None = None
    pending: PendingOperation | None = None
    lock: Lock | None = None
    patience: float = PATIENCE  # seconds

    @property
    def lag(self) -> int:
        """The number of acknowledged records that are not projected, without transaction markers at the position."""
        position = self.beginning if self.position is None else self.position
        return max(0, self.end - (self.readable if self.only_markers else position))


def judge(facts: Facts) -> Verdict:
    """Returns the verdict that follows from the facts. Pure."""
    if facts.stopped is not None:
        return Stopped(facts.stopped)
    if not facts.projected:
        return Paused(facts.generation_state)
    position = facts.position
    if position is not None and not facts.beginning <= position <= facts.end:
        return Gone(position, facts.beginning, facts.end)
    return _assignment_verdict(facts) or _claim_verdict(facts) or _progress_verdict(facts)


def _assignment_verdict(facts: Facts) -> Verdict | None:
    """Returns the verdict that follows from the consumer group alone; None if it decides nothing."""
    group = facts.group
    if group.error is not None:
        return Unknown(f"its consumer group cannot be described: {group.error}")
    if not group.settled:
        return None  # during a rebalance, only the position shows whether the partition advances
    holder = group.holder
    if holder is None:
        return Unassigned(group.state, tuple(map(str, group.foreign_members(facts.generation))))
    return None if holder.projects(facts.generation) else AssignedToForeigner(str(holder))


def _claim_verdict(facts: Facts) -> Verdict | None:
    if facts.limit is not None and facts.position is not None and facts.position >= facts.limit:
        return HeldByOperator(facts.limit)
    obstacle = _obstacle(facts)
    if obstacle is not None:
        return obstacle
    return Unknown("no projector has claimed it yet") if facts.position is None else None


def _obstacle(facts: Facts) -> Waiting | None:
    lock, pending = facts.lock, facts.pending
    if lock is not None and facts.lag:
        what = f"a projector waits for a lock on {lock.table}, which {lock.by} holds"
        return Waiting(what, _locked_for(facts, lock), facts.patience)
    if pending is not None and (facts.lag or facts.position is None):
        error = "" if pending.error is None else f", the last with {pending.error}"
        return Waiting(
            f"{pending.what} has not succeeded in {pending.tries} tries{error}", pending.since, facts.patience
        )
    return None


def _locked_for(facts: Facts, lock: Lock) -> float:
    """Returns the seconds for which a lock is in the way: an attempt that gives up begins to wait anew."""
    tried_for = 0.0 if facts.pending is None else facts.pending.since
    if facts.advanced is None or facts.next_age is None:
        return max(lock.since, tried_for)
    return max(lock.since, tried_for, min(facts.advanced, facts.next_age))


def _progress_verdict(facts: Facts) -> Verdict:
    if facts.lag == 0:
        return CaughtUp()
    assert facts.position is not None
    if facts.position >= facts.readable or facts.only_markers:
        return BlockedByTransaction(facts.readable, facts.end - facts.readable, facts.open_since, facts.patience)
    if facts.moved or facts.advanced is None:
        return Projecting()
    unchanged_for = facts.advanced if facts.next_age is None else min(facts.advanced, facts.next_age)
    return Stalled(unchanged_for) if unchanged_for > facts.patience else Projecting()
