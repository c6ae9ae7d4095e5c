"""Injects faults into the cluster. A seed determines which, when and where, so that a schedule can be repeated."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec
from aiokafka.errors import KafkaError

from chaos.attacks.duplicates import send_duplicates
from chaos.stand.cluster import SESSION_TIMEOUT, Cluster
from projector.failpoints import POINTS, VARIABLE

ROLES = ("broker", "postgres", "command", "projector-1", "projector-2", "query", "load")
PROJECTORS = ("projector-1", "projector-2")
VICTIMS: Mapping[str, Sequence[str]] = {  # faults that are not listed here are for projectors
    "kill": ROLES,
    "restart": ROLES,
    "pause": ROLES,
    "swallow_produce": ["command"],
    "stall": ["broker", "command"],
    "cut_kafka": ["command"],
    "delay_kafka": ["command"],
    "full_disk": ["postgres"],
    "duplicates": ["broker"],
    "rebalance": ["projector-3"],
}
# Below and above each timeout: a round is suspicious (1 s), the circuit opens (3 s), a command is answered (5 s,
# `SHORT_TIMEOUTS`).
STALLS = (0.7, 1.5, 2.6, 3.6, 4.6, 6.0)  # seconds
IN_TRANSACTION = POINTS[2:8]  # failpoints at which a failure looks like one of the database
RECOVERY_WITHIN = 60.0  # seconds until commands are acknowledged again
AT_WORK_WITHIN = 15.0  # seconds until a projector that has just started commits
BROKER_WITHIN = 40.0  # seconds until a role runs, or the broker answers


class Step(msgspec.Struct, frozen=True):
    """One fault to inject: the role, the duration in seconds, and a detail whose meaning depends on the fault."""

    number: int
    fault: str
    role: str
    seconds: float
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.number:3} {self.fault} {self.role} {self.seconds:.2f} s {self.detail}".rstrip()


class Tally:
    """Counts of the injected faults, and of those that could not be injected here."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.not_run: Counter[str] = Counter()


def schedule(seed: int, faults: Mapping[str, int], count: int) -> list[Step]:
    """Draws `count` steps from a seed.

    Args:
        seed: The same seed gives the same steps.
        faults: Weight of each fault. Each fault with a weight comes at least once; a kill once for each role.
        count: Number of steps.
    """
    chance = random.Random(seed)
    names = [name for name, weight in faults.items() if weight]
    drawn: list[tuple[str, str | None]] = [(name, None) for name in names if name != "kill"]
    drawn += [("kill", role) for role in ROLES] if "kill" in names else []
    chance.shuffle(drawn)
    while len(drawn) < count:
        drawn.append((chance.choices(names, [faults[name] for name in names])[0], None))
    return [_step(chance, number, *one) for number, one in enumerate(drawn[:count], 1)]


def _step(chance: random.Random, number: int, fault: str, role: str | None) -> Step:
    seconds = chance.uniform(0.3, 1.5)
    role = role or chance.choice(VICTIMS.get(fault, PROJECTORS))
    if fault == "zombie" or (fault == "pause" and role in PROJECTORS):
        seconds = SESSION_TIMEOUT + chance.uniform(0.8, 2.0)
    if fault == "stall":
        seconds = chance.choice(STALLS)
    return Step(number, fault, role, seconds, _detail(chance, fault))


def _detail(chance: random.Random, fault: str) -> str:
    if fault == "failpoint":
        action = chance.choice(("kill", "kill", "fail", "sleep:1.5"))
        point = chance.choice(IN_TRANSACTION if action == "fail" else POINTS)
        return f"{point}={action}@{chance.randrange(1, 4)}"
    if fault == "zombie":
        return chance.choice((*(["with a commit in hand"] * 3), "at any moment"))
    if fault == "duplicates":
        return f"{chance.randrange(6)} {chance.choice(('first', 'last'))}"
    return chance.choice(("leaves", "dies")) if fault == "rebalance" else ""


def inflict(cluster: Cluster, step: Step, tally: Tally, *, more: int = 100) -> None:
    """Injects one fault, and waits until `more` further events are acknowledged, so that the system works again."""
    FAULTS[step.fault](cluster, step, tally)
    cluster.wait_until(cluster.acknowledged_more(more), RECOVERY_WITHIN, f"commands to be accepted again after {step}")


def _kill(cluster: Cluster, step: Step, tally: Tally) -> None:
    cluster.wait(step.seconds)
    cluster.wait_until(lambda: cluster.runs(step.role), BROKER_WITHIN, f"{step.role} to run")
    cluster.kill(step.role)
    tally.done[f"kill {step.role}"] += 1


def _restart(cluster: Cluster, step: Step, tally: Tally) -> None:
    cluster.wait_until(lambda: cluster.runs(step.role), BROKER_WITHIN, f"{step.role} to run")
    cluster.terminate(step.role)
    cluster.wait(step.seconds)
    tally.done["restart"] += 1


def _pause(cluster: Cluster, step: Step, tally: Tally) -> None:
    cluster.wait_until(lambda: cluster.runs(step.role), BROKER_WITHIN, f"{step.role} to run")
    cluster.freeze(step.role)
    cluster.wait(step.seconds)
    cluster.thaw(step.role)
    tally.done[f"pause {step.role}"] += 1


def _stall(cluster: Cluster, step: Step, tally: Tally) -> None:
    """Freezes the broker or the command side for less or for more than a timeout of the command side."""
    cluster.wait_until(lambda: cluster.runs(step.role), BROKER_WITHIN, f"{step.role} to run")
    cluster.freeze(step.role)
    cluster.wait(step.seconds)
    cluster.thaw(step.role)
    tally.done[f"stall {step.role} {step.seconds:.1f} s"] += 1


def _zombie(cluster: Cluster, step: Step, tally: Tally) -> None:
    """Freezes a projector for longer than its session timeout, if possible while one of its commits is in flight."""
    proxy = cluster.proxies[step.role]
    at_work = until_at_work(cluster, step.role)
    in_hand = False
    if at_work and step.detail.startswith("with"):
        proxy.hold()
        in_hand = cluster.holds_within(proxy.holding.is_set, 5.0)
    cluster.freeze(step.role)
    cluster.wait(step.seconds)
    cluster.thaw(step.role)
    proxy.release()
    tally.done["zombie"] += 1
    tally.done["zombie with a commit in hand"] += in_hand


def until_at_work(cluster: Cluster, role: str) -> bool:
    """Waits until the projector commits. Returns False if it does not: it may own no partition."""
    proxy = cluster.proxies[role]
    before = proxy.commits
    return cluster.holds_within(lambda: proxy.commits > before + 1, AT_WORK_WITHIN)


def _swallow_commit(cluster: Cluster, step: Step, tally: Tally) -> None:
    proxy = cluster.proxies[step.role]
    wanted = int(step.detail or 1)
    before = proxy.swallowed
    proxy.swallow(wanted)
    cluster.holds_within(lambda: proxy.swallowed >= before + wanted, 10.0)
    proxy.swallow(0)
    tally.done["swallowed COMMIT"] += proxy.swallowed - before


def _swallow_produce(cluster: Cluster, step: Step, tally: Tally) -> None:
    proxy = cluster.servers.kafka_proxy
    before = proxy.swallowed
    proxy.swallow(1)
    cluster.holds_within(lambda: proxy.swallowed > before, 10.0)
    proxy.swallow(0)
    tally.done["swallowed Produce"] += proxy.swallowed - before


def _cut_postgres(cluster: Cluster, step: Step, tally: Tally) -> None:
    cluster.proxies[step.role].cut()
    cluster.wait(step.seconds)
    cluster.proxies[step.role].mend()
    tally.done["cut PostgreSQL"] += 1


def _cut_kafka(cluster: Cluster, step: Step, tally: Tally) -> None:
    cluster.servers.kafka_proxy.cut()
    cluster.wait(step.seconds)
    cluster.servers.kafka_proxy.mend()
    tally.done["cut Kafka"] += 1


def _delay_postgres(cluster: Cluster, step: Step, tally: Tally) -> None:
    cluster.proxies[step.role].delay = 0.15
    cluster.wait(2 * step.seconds)
    cluster.proxies[step.role].delay = 0.0
    tally.done["delay PostgreSQL"] += 1


def _delay_kafka(cluster: Cluster, step: Step, tally: Tally) -> None:
    cluster.servers.kafka_proxy.delay = 0.15
    cluster.wait(2 * step.seconds)
    cluster.servers.kafka_proxy.delay = 0.0
    tally.done["delay Kafka"] += 1


def _rebalance(cluster: Cluster, step: Step, tally: Tally) -> None:
    """Starts a third projector and ends it again, by SIGTERM or by SIGKILL."""
    role = cluster.roles[step.role]
    role.wanted = True
    until_at_work(cluster, step.role)
    cluster.wait(step.seconds)
    role.wanted = False
    if cluster.runs(step.role):
        (cluster.kill if step.detail == "dies" else cluster.terminate)(step.role)
    tally.done["rebalance"] += 1


def _full_disk(cluster: Cluster, step: Step, tally: Tally) -> None:
    if not cluster.servers.disk_mounted:
        tally.not_run["full disk"] += 1
        return
    cluster.servers.fill_disk()
    cluster.wait(2 + step.seconds)
    cluster.servers.free_disk()
    tally.done["full disk"] += 1


def _failpoint(cluster: Cluster, step: Step, tally: Tally) -> None:
    """Restarts a projector with an armed failpoint. Meanwhile a backlog grows, so its batches have every size."""
    cluster.wait_until(lambda: cluster.runs(step.role), BROKER_WITHIN, f"{step.role} to run")
    cluster.roles[step.role].extra = {VARIABLE: step.detail}
    cluster.kill(step.role)
    cluster.wait(2 + step.seconds)
    tally.done["failpoint"] += 1


def _duplicates(cluster: Cluster, step: Step, tally: Tally) -> None:
    kafka = cluster.servers.kafka
    cluster.wait_until(cluster.servers.in_service, BROKER_WITHIN, "the broker to answer")
    partition, which = step.detail.split()
    for attempt in range(3):
        try:
            sent = asyncio.run(send_duplicates(kafka, cluster.topic, int(partition), first=which == "first"))
            tally.done["echoed records"] += sent
        except (KafkaError, TimeoutError, OSError):
            cluster.wait(1.0 + attempt)
        else:
            return


FAULTS: dict[str, Callable[[Cluster, Step, Tally], None]] = {
    "kill": _kill,
    "restart": _restart,
    "pause": _pause,
    "zombie": _zombie,
    "stall": _stall,
    "swallow_commit": _swallow_commit,
    "swallow_produce": _swallow_produce,
    "cut_postgres": _cut_postgres,
    "cut_kafka": _cut_kafka,
    "delay_postgres": _delay_postgres,
    "delay_kafka": _delay_kafka,
    "rebalance": _rebalance,
    "full_disk": _full_disk,
    "failpoint": _failpoint,
    "duplicates": _duplicates,
}


def mend(cluster: Cluster) -> None:
    """Ends every fault: all processes run, all connections work."""
    for proxy in cluster.proxies.values():
        proxy.delay = 0.0
        proxy.swallow(0)
        proxy.release()
    cluster.servers.kafka_proxy.delay = 0.0
    cluster.servers.free_disk()
    for name in cluster.roles:
        cluster.thaw(name)


def shown(steps: Sequence[Step]) -> str:
    """Formats the schedule, one step a line."""
    return "\n".join(str(step) for step in steps)


def since(moment: float) -> float:
    """Returns the seconds since `moment`, a value of `time.monotonic()`."""
    return time.monotonic() - moment
