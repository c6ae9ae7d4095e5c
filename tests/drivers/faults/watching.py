"""Who looks on while a fault is planted: Prometheus with the shipped rules, and visitors whose events never stop."""

import itertools
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.drivers.faults.shortened import shortened
from tests.drivers.faults.world import Fault, World
from tests.drivers.prometheus import Prometheus, prometheus
from tests.patience import PATIENCE
from tests.processes import wait_until

VISIT = 0.2  # seconds between two commands of the visitors
# Follow from most faults: events wait, and the budget of a month is spent for some more time.
FOLLOW = frozenset({"FootfallLagging", "FootfallPostErrorsSlow"})
STAY = frozenset({"FootfallPostErrorsSlow"})  # after the fault is gone


class Watching:
    """The alerts of the stack under examination, whichever processes it has by now."""

    def __init__(self, world: World, found: Prometheus) -> None:
        self._world, self._prometheus = world, found

    def firing(self) -> set[str]:
        """What somebody would be told of now."""
        self._prometheus.aim(self._world.targets())
        return self._prometheus.firing()

    def wait_until_well(self, but: Collection[str] = ()) -> None:
        """Every process is scraped, and nobody is told of anything `but` these alerts."""
        last: set[str] = set()

        def is_well() -> bool:
            last.clear()
            last.update(self.firing() - STAY - set(but))
            wanted = sum(len(urls) for urls in self._world.targets().values())
            up = self._prometheus.query("sum(up)")
            return not last and bool(up) and float(up[0]["value"][1]) == wanted

        try:
            wait_until(is_well, 40, "no alert")
        except AssertionError as error:
            raise AssertionError(f"{error}: {sorted(last)} fire") from None

    def wait_until_told_of(self, fault: Fault) -> None:
        """The alerts of the fault fire, and no others."""
        last: set[str] = set()
        named, may = set(fault.alerts), {*fault.alerts, *fault.effects, *FOLLOW}

        def is_told() -> bool:
            last.clear()
            last.update(self.firing())
            return named <= last <= may

        try:
            wait_until(is_told, 60, f"{sorted(named)} to fire")
        except AssertionError as error:
            down = self._prometheus.query("up == 0")
            raise AssertionError(f"{error}: {sorted(last)} fire, and {sorted(may)} may; down: {down}") from None


@contextmanager
def watching(world: World, home: Path) -> Iterator[Watching]:
    """Looks on during the body. Skips the test where there is no Prometheus."""
    with prometheus(home, world.targets(), shortened, world.authority) as found, visitors(world):
        yield Watching(world, found)


@contextmanager
def visitors(world: World) -> Iterator[None]:
    """Send commands during the body, one after the other, whatever becomes of them."""
    ended = threading.Event()

    def visit() -> None:
        for number in itertools.count():
            if ended.wait(VISIT):
                return
            body = {"userId": f"visitor-{number % 50}", "eventType": "LOGIN", "payload": {}}
            try:
                httpx.post(f"{world.front.url}/events/generate", json=body, timeout=PATIENCE, verify=False)  # noqa: S501
            except httpx.HTTPError:
                continue

    thread = threading.Thread(target=visit, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(PATIENCE)
