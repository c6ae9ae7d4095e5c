"""What the loops of a projector say of themselves while they turn, for the watchdog to read."""

import asyncio
import time
from collections.abc import Iterable

import msgspec


class Loop(msgspec.Struct, frozen=True):
    """One loop as it was seen. `serves`: the partitions it works for now; one that serves none may rest.

    `trying_for`: seconds since it last turned to PostgreSQL, in an effort that is tried again until it succeeds.
    """

    name: str
    turns: int
    serves: frozenset[int] = frozenset()
    trying_for: float | None = None
    ended: bool = False


class _Beat(msgspec.Struct):
    turns: int = 0
    serves: frozenset[int] = frozenset()
    tried_at: float | None = None


class Pulse:
    """The loops of one projector, each known by its task."""

    def __init__(self) -> None:
        self._beats: dict[asyncio.Task[object], _Beat] = {}

    def turn(self, serves: Iterable[int] = ()) -> None:
        """The calling loop begins a turn, for these partitions."""
        beat = self._beats.setdefault(_task(), _Beat())
        beat.turns += 1
        beat.serves = frozenset(serves)
        beat.tried_at = None

    def attempt(self) -> None:
        """The calling loop turns to PostgreSQL, perhaps not for the first time in this turn."""
        beat = self._beats.get(_task())
        if beat is not None:
            beat.tried_at = time.monotonic()

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


def _task() -> "asyncio.Task[object]":
    task = asyncio.current_task()
    assert task is not None  # only coroutines of the projector's tasks call this
    return task
