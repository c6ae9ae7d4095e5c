"""The triggers of the mutants: faults that the real Footfall withstands, and under which a mutant shows its fault."""

from chaos.attacks.nemesis import FAULTS, Step, Tally, until_at_work
from chaos.stand.cluster import Cluster

EVENTS = 300  # acknowledged events between two faults


def nothing(cluster: Cluster) -> None:
    """Only lets the load run: the mutant's fault shows without a trigger."""
    _work(cluster, 3 * EVENTS)


def crashes(cluster: Cluster) -> None:
    """Kills each projector while it works."""
    for role in cluster.projectors():
        _do(cluster, "kill", role)


def zombies(cluster: Cluster) -> None:
    """Freezes each projector with a commit in flight, until another projector owns its partitions."""
    for role in cluster.projectors():
        _do(cluster, "zombie", role, seconds=5.0, detail="with a commit in hand")


def failing_database(cluster: Cluster) -> None:
    """Makes transactions fail at their beginning, and breaks connections."""
    for role in cluster.projectors():
        _do(cluster, "failpoint", role, seconds=0.5, detail="before_transaction=fail")
        _do(cluster, "cut_postgres", role)


def rebalances(cluster: Cluster) -> None:
    """Starts and ends a third projector, twice."""
    for detail in ("leaves", "leaves"):
        _do(cluster, "rebalance", "projector-3", seconds=1.0, detail=detail)


def duplicates(cluster: Cluster) -> None:
    """Sends records again that were projected long before."""
    _all_at_work(cluster)
    _work(cluster, 2 * EVENTS)
    _duplicates(cluster, "first")


def _duplicates(cluster: Cluster, which: str) -> None:
    for partition in range(3):
        FAULTS["duplicates"](cluster, Step(0, "duplicates", "broker", 0.0, f"{partition} {which}"), Tally())
    _work(cluster, EVENTS)


def fresh_duplicates(cluster: Cluster) -> None:
    """Sends records twice while both projectors are frozen, so that they fetch original and duplicate together."""
    for role in cluster.projectors():
        until_at_work(cluster, role)
        cluster.freeze(role)
    _work(cluster, EVENTS)
    _duplicates(cluster, "last")
    for role in cluster.projectors():
        cluster.thaw(role)
    _work(cluster, EVENTS)


def ack_nothing(cluster: Cluster) -> None:
    """Kills the command side while the broker is frozen: it may not have acknowledged any event of that time."""
    cluster.freeze("broker")
    cluster.wait(1.0)
    cluster.kill("command")
    cluster.thaw("broker")
    _work(cluster, EVENTS)


def stalled_broker(cluster: Cluster) -> None:
    """Freezes the broker until the circuit opens: pending commands and new ones are refused."""
    _work(cluster, EVENTS)
    FAULTS["stall"](cluster, Step(0, "stall", "broker", 5.0), Tally())
    _work(cluster, EVENTS)


def _do(cluster: Cluster, fault: str, role: str, *, seconds: float = 0.5, detail: str = "") -> None:
    _all_at_work(cluster)
    FAULTS[fault](cluster, Step(0, fault, role, seconds, detail), Tally())
    _work(cluster, EVENTS)
    _all_at_work(cluster)


def _all_at_work(cluster: Cluster) -> None:
    for role in cluster.projectors():
        until_at_work(cluster, role)


def _work(cluster: Cluster, events: int) -> None:
    cluster.wait_until(cluster.acknowledged_more(events), 60.0, "commands to be accepted")


NEED_TWO = (crashes, zombies, failing_database, rebalances)  # these need two projectors to have their full effect
