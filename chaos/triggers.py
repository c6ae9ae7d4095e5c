"""What brings planted faults to light: for each mutant, the harm that a sound product withstands."""

from chaos.cluster import Cast
from chaos.nemesis import HARMS, Step, Tally, until_at_work

EVENTS = 300  # acknowledged between two harms


def nothing(cast: Cast) -> None:
    """The fault shows by itself."""
    _work(cast, 3 * EVENTS)


def crashes(cast: Cast) -> None:
    """Projectors are killed at work."""
    for role in cast.projectors():
        _do(cast, "kill", role)


def zombies(cast: Cast) -> None:
    """Projectors are frozen with a commit in hand, and wake when their partitions are somebody else's."""
    for role in cast.projectors():
        _do(cast, "zombie", role, seconds=5.0, detail="with a commit in hand")


def failing_database(cast: Cast) -> None:
    """Transactions fail at their beginning, and connections break."""
    for role in cast.projectors():
        _do(cast, "failpoint", role, seconds=0.5, detail="before_transaction=fail")
        _do(cast, "cut_postgres", role)


def rebalances(cast: Cast) -> None:
    """A third projector comes and goes."""
    for detail in ("leaves", "leaves"):
        _do(cast, "rebalance", "projector-3", seconds=1.0, detail=detail)


def echoes(cast: Cast) -> None:
    """Records that were projected long since come again."""
    _all_at_work(cast)
    _work(cast, 2 * EVENTS)
    _echo(cast, "first")


def _echo(cast: Cast, which: str) -> None:
    for partition in range(3):
        HARMS["echo"](cast, Step(0, "echo", "broker", 0.0, f"{partition} {which}"), Tally())
    _work(cast, EVENTS)


def fresh_echoes(cast: Cast) -> None:
    """Records come twice while both projectors are frozen: original and echo are fetched together."""
    for role in cast.projectors():
        until_at_work(cast, role)
        cast.freeze(role)
    _work(cast, EVENTS)
    _echo(cast, "last")
    for role in cast.projectors():
        cast.thaw(role)
    _work(cast, EVENTS)


def ack_nothing(cast: Cast) -> None:
    """The command side dies while the broker is frozen: nothing of that moment may have been acknowledged."""
    cast.freeze("broker")
    cast.wait(1.0)
    cast.kill("command")
    cast.thaw("broker")
    _work(cast, EVENTS)


def stalled_broker(cast: Cast) -> None:
    """The broker is frozen until the circuit has opened: what waits, and what comes then, is refused."""
    _work(cast, EVENTS)
    HARMS["stall"](cast, Step(0, "stall", "broker", 5.0), Tally())
    _work(cast, EVENTS)


def _do(cast: Cast, harm: str, role: str, *, seconds: float = 0.5, detail: str = "") -> None:
    _all_at_work(cast)
    HARMS[harm](cast, Step(0, harm, role, seconds, detail), Tally())
    _work(cast, EVENTS)
    _all_at_work(cast)


def _all_at_work(cast: Cast) -> None:
    for role in cast.projectors():
        until_at_work(cast, role)


def _work(cast: Cast, events: int) -> None:
    cast.wait_until(cast.acknowledged_more(events), 60.0, "commands to be accepted")


NEED_TWO = (crashes, zombies, failing_database, rebalances)  # projectors: with one, these harms harm less
