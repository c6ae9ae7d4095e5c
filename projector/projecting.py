"""Is this partition projected? One closed answer, from facts, for status, health, metrics and the watchdog.

No answer is good because nothing was said: a partition is well when its log was read to the end, or when it was seen to
move, or when it stands for less than a patience that is named here (docs/decisions/0019).
"""

from typing import ClassVar, Literal

import msgspec

from projector.consumer_group import Group

PATIENCE = 15.0  # seconds, unless WATCHDOG_INTERVAL_MS says otherwise: what stands for longer is not well
EFFORT = 2.0  # times the patience: a server that restarts, and one try at it, take longer
JOINS_WITHIN = 45.0  # seconds; a dead member holds its place for a session timeout, 30 s unless set otherwise

State = Literal[
    "running", "idle", "held", "paused", "stopped", "gone", "unowned", "foreign", "blocked", "waiting", "standing",
    "joining", "unknown",
]  # fmt: skip


class Verdict(msgspec.Struct, frozen=True):
    """What a partition is found to be. `well`: nothing to say; `heals`: a fresh process might help."""

    state: ClassVar[State] = "unknown"
    heals: ClassVar[bool] = False

    @property
    def well(self) -> bool:
        """Whether it is as it should be."""
        return False

    @property
    def reason(self) -> str | None:
        """A sentence without a full stop, if there is something to say."""
        return None


class CaughtUp(Verdict, frozen=True):
    """Everything that Kafka acknowledged is projected."""

    state: ClassVar[State] = "idle"
    heals: ClassVar[bool] = True

    @property
    def well(self) -> bool:
        """See `Verdict.well`."""
        return True


class Projecting(Verdict, frozen=True):
    """There is more to read, and it moves, or has not stood for long."""

    state: ClassVar[State] = "running"
    heals: ClassVar[bool] = True

    @property
    def well(self) -> bool:
        """See `Verdict.well`."""
        return True


class HeldByOperator(Verdict, frozen=True):
    """An operator lets it go no further for now."""

    limit: int
    state: ClassVar[State] = "held"

    @property
    def well(self) -> bool:
        """See `Verdict.well`."""
        return True

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        return f"an operator holds it at {self.limit}"


class Paused(Verdict, frozen=True):
    """Its generation is not projected now, as an operator wanted."""

    generation_state: str
    state: ClassVar[State] = "paused"

    @property
    def well(self) -> bool:
        """See `Verdict.well`."""
        return True

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        return f"the generation is {self.generation_state}"


class Stopped(Verdict, frozen=True):
    """It stands still with a cause that the projector wrote down, and its remedy."""

    cause: str
    state: ClassVar[State] = "stopped"

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        return self.cause


class Gone(Verdict, frozen=True):
    """The log does not hold what the checkpoint needs next."""

    position: int
    beginning: int
    end: int
    state: ClassVar[State] = "gone"

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        if self.position > self.end:
            return f"the log ends at {self.end}, before the checkpoint, {self.position}: footfall rebuild start"
        lost = f"the log begins at {self.beginning}: offsets {self.position} to {self.beginning - 1} are gone from it"
        return f"{lost}. To go on without them: footfall gaps accept"


class Unowned(Verdict, frozen=True):
    """The group has given it to nobody. `strangers`: who is in the group and no projector of this generation."""

    group_state: str
    strangers: tuple[str, ...] = ()
    state: ClassVar[State] = "unowned"

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        if not self.strangers:
            return "no projector is assigned to it"
        return (
            f"no projector is assigned to it; in its consumer group are {', '.join(self.strangers)}, which are no "
            "projectors: end them, or give them a group of their own"
        )


class HeldByForeigner(Verdict, frozen=True):
    """The group has given it to a member that is no projector of this generation."""

    member: str
    state: ClassVar[State] = "foreign"

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        return f"its consumer group gave it to {self.member}, which is no projector: end it, or give it another group"


class BlockedByTransaction(Verdict, frozen=True):
    """All that may be read is projected; the rest belongs to, or lies behind, a transaction that nobody ended."""

    offset: int
    behind: int
    since: float | None
    patience: float = PATIENCE
    state: ClassVar[State] = "blocked"

    @property
    def well(self) -> bool:
        """See `Verdict.well`."""
        return self.since is not None and self.since < self.patience

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        since = "" if self.since is None else f" for {self.since:.0f} s"
        return (
            f"a producer's transaction has been open at offset {self.offset}{since}: {self.behind:,} acknowledged "
            "records wait for its end. Kafka aborts it after its transaction.timeout.ms"
        )


class Waiting(Verdict, frozen=True):
    """One effort has not succeeded. `what`: how far it came, and what stands in its way."""

    what: str
    since: float
    patience: float = PATIENCE
    state: ClassVar[State] = "waiting"

    @property
    def well(self) -> bool:
        """See `Verdict.well`."""
        return self.since < EFFORT * self.patience

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        return f"{self.what}, for {self.since:.0f} s"


class Standing(Verdict, frozen=True):
    """There is more to read, it does not move, and nobody knows why."""

    since: float
    state: ClassVar[State] = "standing"
    heals: ClassVar[bool] = True

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        return (
            f"it has stood still for {self.since:.0f} s though there is more to read; the projector's log may say why"
        )


class Joining(Verdict, frozen=True):
    """The group is being dealt out anew, or Kafka refuses this projector. `since`: seconds without an assignment."""

    since: float
    refusal: str | None = None
    strangers: tuple[str, ...] = ()
    state: ClassVar[State] = "joining"

    @property
    def well(self) -> bool:
        """See `Verdict.well`."""
        return self.refusal is None and self.since < JOINS_WITHIN

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        if self.refusal is None:
            return f"the consumer group has been assigning its partitions for {self.since:.0f} s"
        others = f" In the group: {', '.join(self.strangers)}." if self.strangers else ""
        return f"Kafka refuses this projector as a member of its consumer group: {self.refusal}.{others}"


class Unknown(Verdict, frozen=True):
    """What would have to be known to call it well is not."""

    what: str

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        return self.what


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
        return Unowned(group.state, tuple(map(str, group.strangers(facts.generation))))
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
