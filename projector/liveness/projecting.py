"""Is this partition projected? One closed answer, from facts, for status, health, metrics and the watchdog.

No answer is good because nothing was said: a partition is well when its log was read to the end, or when it was seen to
move, or when it stands for less than a patience that is named (docs/decisions/0028).
"""

import msgspec

from projector.consuming.consumer_group import Group
from projector.liveness.verdicts import (
    PATIENCE,
    BlockedByTransaction,
    CaughtUp,
    Gone,
    HeldByForeigner,
    HeldByOperator,
    Paused,
    Projecting,
    Standing,
    Stopped,
    Unknown,
    Unowned,
    Verdict,
    Waiting,
)


class Effort(msgspec.Struct, frozen=True):
    """The same thing, tried again and again. `since`: seconds since the first try; `error`: how the last one ended."""

    what: str
    since: float
    error: str | None = None
    tries: int = 1


class Lock(msgspec.Struct, frozen=True):
    """A projector's session that waits for another's lock. `since`: seconds; `by`: who that is."""

    table: str
    by: str
    since: float


class Facts(msgspec.Struct, frozen=True):
    """What is known of one partition in one generation.

    `advanced`: seconds since its checkpoint moved; `next_age`: seconds since its next record was made. None: not known,
    or there is none. `only_markers`: what lies before `readable` has no records. `moved`: it was seen to move just now.
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
    effort: Effort | None = None
    lock: Lock | None = None
    patience: float = PATIENCE  # seconds

    @property
    def lag(self) -> int:
        """Records that Kafka acknowledged and that are not projected; markers that nobody reads do not count."""
        position = self.beginning if self.position is None else self.position
        return max(0, self.end - (self.readable if self.only_markers else position))


def judge(facts: Facts) -> Verdict:
    """What the facts mean. Pure."""
    if facts.stopped is not None:
        return Stopped(facts.stopped)
    if not facts.projected:
        return Paused(facts.generation_state)
    position = facts.position
    if position is not None and not facts.beginning <= position <= facts.end:
        return Gone(position, facts.beginning, facts.end)
    return _assigned(facts) or _claimed(facts) or _moving(facts)


def _assigned(facts: Facts) -> Verdict | None:
    """What the group's word alone decides. The partition is `group.partition` there."""
    group = facts.group
    if group.error is not None:
        return Unknown(f"its consumer group cannot be looked at: {group.error}")
    if not group.settled:
        return None  # a rebalance: what moves or stands is seen by its position
    holder = group.holder
    if holder is None:
        return Unowned(group.state, tuple(map(str, group.foreign_members(facts.generation))))
    return None if holder.projects(facts.generation) else HeldByForeigner(str(holder))


def _claimed(facts: Facts) -> Verdict | None:
    if facts.limit is not None and facts.position is not None and facts.position >= facts.limit:
        return HeldByOperator(facts.limit)
    obstacle = _obstacle(facts)
    if obstacle is not None:
        return obstacle
    return Unknown("nobody has claimed it yet") if facts.position is None else None


def _obstacle(facts: Facts) -> Waiting | None:
    lock, effort = facts.lock, facts.effort
    if lock is not None and facts.lag:
        return Waiting(
            f"a projector waits for a lock on {lock.table}, which {lock.by} holds", lock.since, facts.patience
        )
    if effort is not None and (facts.lag or facts.position is None):
        error = "" if effort.error is None else f", the last with {effort.error}"
        return Waiting(f"{effort.what} has not succeeded in {effort.tries} tries{error}", effort.since, facts.patience)
    return None


def _moving(facts: Facts) -> Verdict:
    if facts.lag == 0:
        return CaughtUp()
    assert facts.position is not None
    if facts.position >= facts.readable or facts.only_markers:
        return BlockedByTransaction(facts.readable, facts.end - facts.readable, facts.open_since, facts.patience)
    if facts.moved or facts.advanced is None:
        return Projecting()
    stands = facts.advanced if facts.next_age is None else min(facts.advanced, facts.next_age)
    return Standing(stands) if stands > facts.patience else Projecting()
