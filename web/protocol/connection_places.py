"""Which connections of a process end: those that are overdue, and, once there are too many, the longest idle.

Thousands of clients that keep an idle connection alive would otherwise shut out everybody until each has timed out. One
client that keeps thousands busy, with heads that never end, is bound by what one address may have. Of IPv6 that is the
network of one customer, as for rates: it has any number of addresses.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Protocol

from web.policies.limits.rate_limits import network_of

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


class ConnectionPlaces:
    """The connections that a process may have open, and one address among them."""

    def __init__(self, most: int, most_of_address: int = 0) -> None:
        """`most_of_address`: 0: as many as there are places."""
        self._most = most
        self._most_of_address = most_of_address
        self._of_address: Counter[str] = Counter()  # only what is open is there

    def take(self, client: tuple[str, int] | None, connections: Collection[Place]) -> bool:
        """Counts a connection, which is among `connections` already; False: there is no place for it.

        Whatever it returns, `give_back` must be called when the connection has ended.
        """
        address = _address_of(client)
        self._of_address[address] += 1
        if 0 < self._most_of_address < self._of_address[address]:
            return False
        return len(connections) <= self._most or has_given_way(connections)

    def give_back(self, client: tuple[str, int] | None) -> None:
        """The connection has ended."""
        address = _address_of(client)
        self._of_address[address] -= 1
        if not self._of_address[address]:
            del self._of_address[address]


def _address_of(client: tuple[str, int] | None) -> str:
    address = client[0] if client else ""
    return network_of(address) if ":" in address else address


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
