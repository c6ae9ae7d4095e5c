"""Heartbeats of a projector's loops, which health probes and the watchdog read."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from projector.facts.obstacles import reason_of
from projector.liveness.projecting import PendingOperation
from telemetry.server_facts import OBSTACLES

BATCH, CLAIM, FETCH = "the batch", "the claim", "the fetch"


class Loop(msgspec.Struct, frozen=True):
    """One loop at the time of the question.

    `turns`: the turns it has begun. `serves`: the partitions it works for; a loop without partitions may be idle.
    `trying_for`: seconds since it began its latest attempt at an operation that it retries until it succeeds.
    """

    name: str
    turns: int
    serves: frozenset[int] = frozenset()
    trying_for: float | None = None
    ended: bool = False


class _Attempts(msgspec.Struct):
    began: float
    tries: int = 0
    error: str | None = None


class _Beat(msgspec.Struct):
    turns: int = 0
    serves: frozenset[int] = frozenset()
    attempted_at: float | None = None
    operations: dict[str, _Attempts] = msgspec.field(default_factory=dict)


class Membership:
    """The consumer group membership of a generation's loop, across all its consumers."""

    def __init__(self) -> None:
        self.joining_since: float | None = time.monotonic()  # monotonic seconds; None while there is an assignment
        self.refusal: str | None = None  # the class of Kafka's last error, if Kafka refuses us as a member

    def joined(self) -> None:
        """Notes that the group has assigned partitions to us; the assignment may be empty."""
        self.joining_since = self.refusal = None

    def left(self) -> None:
        """Notes that our assignment has ended."""
        self.joining_since = self.joining_since or time.monotonic()

    def refused(self, error: BaseException) -> None:
        """Notes that Kafka refuses us as a member."""
        self.refusal = type(error).__name__

    def joining_for(self, now: float) -> float:
        """Returns the seconds without an assignment; `now` in monotonic seconds."""
        return 0.0 if self.joining_since is None else now - self.joining_since


class Heartbeats:
    """The heartbeats of one projector's loops. Each loop is identified by its task."""

    def __init__(self) -> None:
        self._beats: dict[asyncio.Task[object], _Beat] = {}

    def begin_turn(self, serves: Iterable[int] = ()) -> None:
        """Notes that the calling loop begins a turn, for the partitions in `serves`."""
        beat = self._beats.setdefault(_task(), _Beat())
        beat.turns += 1
        beat.serves = frozenset(serves)
        beat.attempted_at = None
        beat.operations = {what: tries for what, tries in beat.operations.items() if what == FETCH}

    def attempt(self, what: str = BATCH) -> None:
        """Notes that the calling loop begins an attempt at an operation in PostgreSQL, the first or a retry."""
        beat = self._beats.get(_task())
        if beat is not None:
            beat.attempted_at = time.monotonic()
            beat.operations.setdefault(what, _Attempts(beat.attempted_at)).tries += 1

    def failed(self, error: BaseException, what: str = BATCH) -> None:
        """Notes that the calling loop's attempt failed and will be retried."""
        beat = self._beats.get(_task())
        if beat is not None:
            tries = beat.operations.setdefault(what, _Attempts(time.monotonic(), 1))
            tries.tries += what == FETCH
            tries.error = error_name(error)
            OBSTACLES.labels(reason=reason_of(error)).inc()

    def succeeded(self, what: str = BATCH) -> None:
        """Notes that the calling loop's operation has succeeded."""
        beat = self._beats.get(_task())
        if beat is not None:
            beat.operations.pop(what, None)

    def pending_operations(self) -> list[tuple[frozenset[int], PendingOperation]]:
        """Returns the operations in progress, each with the partitions that wait for it.

        An empty set of partitions means: all partitions that are assigned and not held.
        """
        now = time.monotonic()
        return [
            (beat.serves, PendingOperation(what, now - tries.began, tries.error, tries.tries))
            for beat in self._beats.values()
            for what, tries in beat.operations.items()
        ]

    def end(self, task: "asyncio.Task[Any] | None" = None) -> None:
        """Removes a loop that ends regularly: that of `task`, or the calling one."""
        self._beats.pop(task or _task(), None)

    def loops(self) -> list[Loop]:
        """Returns every loop that has not ended regularly."""
        now = time.monotonic()
        return [
            Loop(
                task.get_name(),
                beat.turns,
                beat.serves,
                None if beat.attempted_at is None else now - beat.attempted_at,
                task.done(),
            )
            for task, beat in self._beats.items()
        ]


def error_name(error: BaseException) -> str:
    """Describes an error for health probes: its class and SQLSTATE, without its text, which may quote an event."""
    code = getattr(error, "sqlstate", None)
    return f"{type(error).__name__} ({code})" if code else type(error).__name__


def _task() -> "asyncio.Task[object]":
    task = asyncio.current_task()
    assert task is not None  # only coroutines of the projector's tasks call this
    return task
