"""What a partition may be found to be: a closed set of answers, each well or not, with a sentence of its own."""

from typing import ClassVar, Literal

import msgspec

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
    """The group has given it to nobody. `foreign_members`: who is in the group and no projector of this generation."""

    group_state: str
    foreign_members: tuple[str, ...] = ()
    state: ClassVar[State] = "unowned"

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        if not self.foreign_members:
            return "no projector is assigned to it"
        return (
            f"no projector is assigned to it; in its consumer group are {', '.join(self.foreign_members)}, which are "
            "no projectors: end them, or give them a group of their own"
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
    foreign_members: tuple[str, ...] = ()
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
        others = f" In the group: {', '.join(self.foreign_members)}." if self.foreign_members else ""
        return f"Kafka refuses this projector as a member of its consumer group: {self.refusal}.{others}"


class Unknown(Verdict, frozen=True):
    """What would have to be known to call it well is not."""

    what: str

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        return self.what
