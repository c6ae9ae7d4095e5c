"""The closed set of verdicts on a partition. Each is healthy or not, and explains itself in a sentence."""

from typing import ClassVar, Literal

import msgspec

PATIENCE = 15.0  # seconds without progress until a partition is unhealthy, unless WATCHDOG_INTERVAL_MS says otherwise
PENDING_FACTOR = 2.0  # times the patience, for a retried operation: a restart of the server and one attempt take longer
JOIN_TIMEOUT = 45.0  # seconds; a dead member keeps its place for a session timeout, 10 s by default

State = Literal[
    "running", "idle", "held", "paused", "stopped", "gone", "unowned", "foreign", "blocked", "waiting", "standing",
    "joining", "unknown",
]  # fmt: skip


class Verdict(msgspec.Struct, frozen=True):
    """A verdict on one partition. `restart_helps`: a restart of the process might help."""

    state: ClassVar[State] = "unknown"
    restart_helps: ClassVar[bool] = False

    @property
    def healthy(self) -> bool:
        """Whether the partition is as it should be."""
        return False

    @property
    def reason(self) -> str | None:
        """A sentence without a full stop that explains the verdict, if there is something to explain."""
        return None


class CaughtUp(Verdict, frozen=True):
    """Every record that Kafka acknowledged is projected."""

    state: ClassVar[State] = "idle"
    restart_helps: ClassVar[bool] = True

    @property
    def healthy(self) -> bool:
        """See `Verdict.healthy`."""
        return True


class Projecting(Verdict, frozen=True):
    """There are records to read, and the partition advances, or has not advanced for a short time only."""

    state: ClassVar[State] = "running"
    restart_helps: ClassVar[bool] = True

    @property
    def healthy(self) -> bool:
        """See `Verdict.healthy`."""
        return True


class HeldByOperator(Verdict, frozen=True):
    """An operator holds the partition at an offset."""

    limit: int
    state: ClassVar[State] = "held"

    @property
    def healthy(self) -> bool:
        """See `Verdict.healthy`."""
        return True

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        return f"an operator holds it at {self.limit}"


class Paused(Verdict, frozen=True):
    """An operator has paused its generation."""

    generation_state: str
    state: ClassVar[State] = "paused"

    @property
    def healthy(self) -> bool:
        """See `Verdict.healthy`."""
        return True

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        return f"the generation is {self.generation_state}"


class Stopped(Verdict, frozen=True):
    """The projector stopped the partition and stored the cause, with its remedy."""

    cause: str
    state: ClassVar[State] = "stopped"

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        return self.cause


class Gone(Verdict, frozen=True):
    """The log does not hold the record that the checkpoint needs next."""

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


class Unassigned(Verdict, frozen=True):
    """The group has assigned the partition to no member.

    `foreign_members`: the members of the group that are not projectors of this generation.
    """

    group_state: str
    foreign_members: tuple[str, ...] = ()
    state: ClassVar[State] = "unowned"

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        if not self.foreign_members:
            return "no projector is assigned to it"
        return (
            f"no projector is assigned to it; its consumer group has other members: {', '.join(self.foreign_members)}. "
            "Stop them, or give them a group of their own"
        )


class AssignedToForeigner(Verdict, frozen=True):
    """The group has assigned the partition to a member that is not a projector of this generation."""

    member: str
    state: ClassVar[State] = "foreign"

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        return (
            f"its consumer group assigned it to {self.member}, which is not a projector of this generation: "
            "stop that client, or give it a group of its own"
        )


class BlockedByTransaction(Verdict, frozen=True):
    """All readable records are projected; the others belong to an open transaction or follow one."""

    offset: int
    behind: int
    since: float | None
    patience: float = PATIENCE
    state: ClassVar[State] = "blocked"

    @property
    def healthy(self) -> bool:
        """See `Verdict.healthy`."""
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
    """An operation has not succeeded yet. `what`: the operation, and the obstacle. `since`: seconds."""

    what: str
    since: float
    patience: float = PATIENCE
    state: ClassVar[State] = "waiting"

    @property
    def healthy(self) -> bool:
        """See `Verdict.healthy`."""
        return self.since < PENDING_FACTOR * self.patience

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        return f"{self.what}, for {self.since:.0f} s"


class Stalled(Verdict, frozen=True):
    """There are records to read, but the partition does not advance, for an unknown reason. `since`: seconds."""

    since: float
    state: ClassVar[State] = "standing"
    restart_helps: ClassVar[bool] = True

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        return (
            f"it has made no progress for {self.since:.0f} s although there are records to read; "
            "the projector's log may say why"
        )


class Joining(Verdict, frozen=True):
    """The group is rebalancing, or Kafka refuses this projector. `since`: seconds without an assignment."""

    since: float
    refusal: str | None = None
    foreign_members: tuple[str, ...] = ()
    state: ClassVar[State] = "joining"

    @property
    def healthy(self) -> bool:
        """See `Verdict.healthy`."""
        return self.refusal is None and self.since < JOIN_TIMEOUT

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        if self.refusal is None:
            return f"the consumer group has been assigning its partitions for {self.since:.0f} s"
        others = f" In the group: {', '.join(self.foreign_members)}." if self.foreign_members else ""
        return f"Kafka refuses this projector as a member of its consumer group: {self.refusal}.{others}"


class Unknown(Verdict, frozen=True):
    """A fact is missing that a healthy verdict would need. `what`: a sentence about it."""

    what: str

    @property
    def reason(self) -> str:
        """See `Verdict.reason`."""
        return self.what
