"""What brings planted faults to light: for each mutant, the harm that a sound product withstands."""

from chaos.cluster import Cluster
from chaos.nemesis import HARMS, Step, Tally, until_at_work

EVENTS = 300  # acknowledged between two harms


def nothing(cluster: Cluster) -> None:
    """The fault shows by itself."""
    _work(cluster, 3 * EVENTS)


def crashes(cluster: Cluster) -> None:
    """Projectors are killed at work."""
    for role in cluster.projectors():
        _do(cluster, "kill", role)


def zombies(cluster: Cluster) -> None:
    """Projectors are frozen with a commit in hand, and wake when their partitions are somebody else's."""
    for role in cluster.projectors():
        _do(cluster, "zombie", role, seconds=5.0, detail="with a commit in hand")


def failing_database(cluster: Cluster) -> None:
    """Transactions fail at their beginning, and connections break."""
    for role in cluster.projectors():
        _do(cluster, "failpoint", role, seconds=0.5, detail="before_transaction=fail")
        _do(cluster, "cut_postgres", role)


def rebalances(cluster: Cluster) -> None:
    """A third projector comes and goes."""
    for detail in ("leaves", "leaves"):
        _do(cluster, "rebalance", "projector-3", seconds=1.0, detail=detail)


def duplicates(cluster: Cluster) -> None:
    """Records that were projected long since come again."""
    _all_at_work(cluster)
    _work(cluster, 2 * EVENTS)
    _duplicates(cluster, "first")


def _duplicates(cluster: Cluster, which: str) -> None:
    for partition in range(3):
        HARMS["duplicates"](cluster, Step(0, "duplicates", "broker", 0.0, f"{partition} {which}"), Tally())
    _work(cluster, EVENTS)


def fresh_duplicates(cluster: Cluster) -> None:
    """Records come twice while both projectors are frozen: original and echo are fetched together."""
    for role in cluster.projectors():
        until_at_work(cluster, role)
        cluster.freeze(role)
    _work(cluster, EVENTS)
    _duplicates(cluster, "last")
    for role in cluster.projectors():
        cluster.thaw(role)
    _work(cluster, EVENTS)


def ack_nothing(cluster: Cluster) -> None:
    """The command side dies while the broker is frozen: nothing of that moment may have been acknowledged."""
    cluster.freeze("broker")
    cluster.wait(1.0)
    cluster.kill("command")
    cluster.thaw("broker")
    _work(cluster, EVENTS)


def stalled_broker(cluster: Cluster) -> None:
    """The broker is frozen until the circuit has opened: what waits, and what comes then, is refused."""
    _work(cluster, EVENTS)
    HARMS["stall"](cluster, Step(0, "stall", "broker", 5.0), Tally())
    _work(cluster, EVENTS)


def _do(cluster: Cluster, harm: str, role: str, *, seconds: float = 0.5, detail: str = "") -> None:
    _all_at_work(cluster)
    HARMS[harm](cluster, Step(0, harm, role, seconds, detail), Tally())
    _work(cluster, EVENTS)
    _all_at_work(cluster)


def _all_at_work(cluster: Cluster) -> None:
    for role in cluster.projectors():
        until_at_work(cluster, role)


def _work(cluster: Cluster, events: int) -> None:
    cluster.wait_until(cluster.acknowledged_more(events), 60.0, "commands to be accepted")


NEED_TWO = (crashes, zombies, failing_database, rebalances)  # projectors: with one, these harms harm less
