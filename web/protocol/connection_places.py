"""Which connections of a process end: those that are overdue, and, once there are too many, the longest idle.

Thousands of clients that keep an idle connection alive would otherwise shut out everybody until each has timed out.
"""

import asyncio
from collections.abc import Iterable
from typing import Protocol

GRACE = 1.0  # seconds in which a connection that was just made may ask for something


class Place(Protocol):
    """A connection that can tell whether it is needed."""

    def idle_since(self) -> float | None:
        """Loop time; None while something is under way."""
        ...

    def has_asked(self) -> bool:
        """Whether it was ever used."""
        ...

    def give_way(self) -> None:
        """Closes."""
        ...

    def close_if_overdue(self, now: float) -> None:
        """`now`: loop time."""
        ...


def close_overdue(connections: Iterable[Place], now: float) -> None:
    """Ends the connections whose deadline has passed. `now`: loop time."""
    for place in list(connections):
        place.close_if_overdue(now)


def has_given_way(connections: Iterable[Place]) -> bool:
    """Closes the connection that has been idle longest; False when all are busy, or have just been made."""
    recent = asyncio.get_running_loop().time() - GRACE
    longest: tuple[float, Place] | None = None
    for place in connections:
        since = place.idle_since()
        if since is None or (since > recent and not place.has_asked()):
            continue
        if longest is None or since < longest[0]:
            longest = since, place
    if longest is None:
        return False
    longest[1].give_way()
    return True
