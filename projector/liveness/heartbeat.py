"""What the loops of a projector say of themselves while they turn, for health and the watchdog to read."""

import asyncio
import time
from collections.abc import Iterable

import msgspec

from projector.liveness.projecting import Effort

BATCH, CLAIM, FETCH = "the batch", "the claim", "the fetch"


class Loop(msgspec.Struct, frozen=True):
    """One loop as it was seen. `serves`: the partitions it works for now; one that serves none may rest.

    `trying_for`: seconds since it last turned to PostgreSQL, in an effort that is tried again until it succeeds.
    """

    name: str
    turns: int
    serves: frozenset[int] = frozenset()
    trying_for: float | None = None
    ended: bool = False


class _Tries(msgspec.Struct):
    began: float
    tries: int = 0
    error: str | None = None


class _Beat(msgspec.Struct):
    turns: int = 0
    serves: frozenset[int] = frozenset()
    tried_at: float | None = None
    efforts: dict[str, _Tries] = msgspec.field(default_factory=dict)


class Membership:
    """Where a generation's loop stands with its consumer group, over all its consumers."""

    def __init__(self) -> None:
        self.joining_since: float | None = time.monotonic()  # None while an assignment stands
        self.refusal: str | None = None  # Kafka's last word, if it would not have us

    def joined(self) -> None:
        """The group has assigned us what it wants, perhaps nothing."""
        self.joining_since = self.refusal = None

    def left(self) -> None:
        """What was assigned is not any more."""
        self.joining_since = self.joining_since or time.monotonic()

    def refused(self, error: BaseException) -> None:
        """Kafka would not have us as a member."""
        self.refusal = type(error).__name__

    def joining_for(self, now: float) -> float:
        """Seconds without an assignment."""
        return 0.0 if self.joining_since is None else now - self.joining_since


class Heartbeats:
    """The loops of one projector, each known by its task."""

    def __init__(self) -> None:
        self._beats: dict[asyncio.Task[object], _Beat] = {}

    def turn(self, serves: Iterable[int] = ()) -> None:
        """The calling loop begins a turn, for these partitions."""
        beat = self._beats.setdefault(_task(), _Beat())
        beat.turns += 1
        beat.serves = frozenset(serves)
        beat.tried_at = None
        beat.efforts = {what: tries for what, tries in beat.efforts.items() if what == FETCH}

    def attempt(self, what: str = BATCH) -> None:
        """The calling loop turns to PostgreSQL, perhaps not for the first time in this turn."""
        beat = self._beats.get(_task())
        if beat is not None:
            beat.tried_at = time.monotonic()
            beat.efforts.setdefault(what, _Tries(beat.tried_at)).tries += 1

    def failed(self, error: BaseException, what: str = BATCH) -> None:
        """What the calling loop tried has failed, and is tried again."""
        beat = self._beats.get(_task())
        if beat is not None:
            tries = beat.efforts.setdefault(what, _Tries(time.monotonic(), 1))
            tries.tries += what == FETCH
            tries.error = named(error)

    def succeeded(self, what: str = BATCH) -> None:
        """What the calling loop tried has come to its end."""
        beat = self._beats.get(_task())
        if beat is not None:
            beat.efforts.pop(what, None)

    def efforts(self) -> list[tuple[frozenset[int], Effort]]:
        """What is being tried, and the partitions that wait for it; empty: all that are assigned and not held."""
        now = time.monotonic()
        return [
            (beat.serves, Effort(what, now - tries.began, tries.error, tries.tries))
            for beat in self._beats.values()
            for what, tries in beat.efforts.items()
        ]

    def leave(self) -> None:
        """The calling loop ends as it should."""
        self._beats.pop(_task(), None)

    def loops(self) -> list[Loop]:
        """Every loop that has not left."""
        now = time.monotonic()
        return [
            Loop(
                task.get_name(),
                beat.turns,
                beat.serves,
                None if beat.tried_at is None else now - beat.tried_at,
                task.done(),
            )
            for task, beat in self._beats.items()
        ]


def named(error: BaseException) -> str:
    """An error for people who look at health: its class, and PostgreSQL's code; its text may quote an event."""
    code = getattr(error, "sqlstate", None)
    return f"{type(error).__name__} ({code})" if code else type(error).__name__


def _task() -> "asyncio.Task[object]":
    task = asyncio.current_task()
    assert task is not None  # only coroutines of the projector's tasks call this
    return task
