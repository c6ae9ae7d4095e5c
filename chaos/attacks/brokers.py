"""The campaign `cluster`: three brokers, of which one or two die or freeze, restart in turn, or hand on a partition."""

import asyncio
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import AlterPartitionReassignmentsRequest

from chaos.attacks.campaigns import Campaign, Round
from chaos.attacks.nemesis import Tally
from chaos.checking import reading
from chaos.checking.history import Writer
from chaos.stand.cluster import ChaosError, Cluster

PARTITIONS = 10
BACK_WITHIN = 15.0  # seconds until every partition takes events again, and they are projected: the goal
PATIENCE = 60.0  # seconds after which it counts as a failure
WHOLE_WITHIN = 90.0  # seconds until every partition has all its copies again
REFUSED_WITHIN = 30.0  # seconds until commands are refused when two of three brokers are away
DOWN = (0.0, 4.0, 8.0)  # seconds that a killed broker stays away
FROZEN = (1.5, 5.0, 12.0)  # seconds; the brokers' session timeout is 3 s
GENERATION = "read_g1"
PROJECTED_SINCE = (
    f"SELECT count(DISTINCT kafka_partition) FROM {GENERATION}.processed_events "
    "WHERE occurred_at > to_timestamp({since})"
)
LONG = {"kill": 36, "kill_controller": 6, "freeze": 10, "two_of_three": 4, "rolling_restart": 2, "reassign": 3}
SHORT = dict.fromkeys(LONG, 1)
LONG_EVENTS = 100_000


class Fault(msgspec.Struct, frozen=True):
    """One fault, for the broker of this number (from 0), for so many seconds."""

    name: str
    broker: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.name} broker-{self.broker + 1} {self.seconds:g} s"


def cluster(campaign: Campaign) -> list[Round]:
    """Three brokers: any one killed or frozen, two of three, restarted in turn, a partition moved (FOOTFALL_LONG)."""
    long = bool(os.environ.get("FOOTFALL_LONG"))
    faults = drawn(campaign.seed, LONG if long else SHORT)
    slowest: list[float] = []

    def attack(cluster: Cluster, tally: Tally) -> None:
        for number, fault in enumerate(faults, 1):
            back = FAULTS[fault.name](cluster, fault, tally)
            slowest.append(back)
            campaign.say(f"{number:3} {fault}; back after {back:.1f} s; {cluster.counter.read():,} acknowledged")
            wait_until_whole(cluster)
        tally.done["slowest seconds until every partition was back"] = round(max(slowest))
        tally.done[f"later than {BACK_WITHIN:.0f} s"] = sum(back > BACK_WITHIN for back in slowest)
        if long:
            cluster.wait_until(
                lambda: cluster.counter.read() >= LONG_EVENTS, 600.0, f"{LONG_EVENTS:,} acknowledged events"
            )

    return [campaign.round("a cluster of three brokers", attack, per_second=250.0)]


def drawn(seed: int, counts: dict[str, int]) -> list[Fault]:
    """Draws the faults from a seed; each name as often as it is asked for."""
    chance = random.Random(seed)
    names = [name for name, count in counts.items() for _ in range(count)]
    chance.shuffle(names)
    return [Fault(name, chance.randrange(3), chance.choice(FROZEN if name == "freeze" else DOWN)) for name in names]


# --- faults: each returns the seconds until every partition was back --------------------------------------------------


def _kill(cluster: Cluster, fault: Fault, tally: Tally) -> float:
    return _kill_one(cluster, cluster.servers.broker_names[fault.broker], fault.seconds, tally)


def _kill_controller(cluster: Cluster, fault: Fault, tally: Tally) -> float:
    tally.done["kill of the controller"] += 1
    return _kill_one(cluster, f"broker-{cluster.servers.brokers.controller()}", fault.seconds, tally)


def _kill_one(cluster: Cluster, name: str, seconds: float, tally: Tally) -> float:
    cluster.roles[name].wanted = False
    cluster.kill(name)
    tally.done["SIGKILL of a broker"] += 1
    back = seconds_until_back(cluster, PATIENCE, f"the survivors of {name} to take and give every event")
    cluster.wait(max(0.0, seconds - back))
    cluster.roles[name].wanted = True
    return back


def _freeze(cluster: Cluster, fault: Fault, tally: Tally) -> float:
    """Freezes a broker. It goes on in the belief that it leads what it led."""
    name = cluster.servers.broker_names[fault.broker]
    started = time.monotonic()
    cluster.freeze(name)
    if fault.seconds < BACK_WITHIN / 2:
        cluster.wait(fault.seconds)
        cluster.thaw(name)
    back = seconds_until_back(cluster, PATIENCE, f"every event again although {name} is frozen", started)
    cluster.wait(max(0.0, fault.seconds - back))
    cluster.thaw(name)
    tally.done["SIGSTOP of a broker"] += 1
    return back


def _two_of_three(cluster: Cluster, fault: Fault, tally: Tally) -> float:
    """Kills two brokers: nothing is acknowledged any more, the answer says why, and both come back unaided."""
    names = [name for number, name in enumerate(cluster.servers.broker_names) if number != fault.broker]
    for name in names:
        cluster.roles[name].wanted = False
        cluster.kill(name)
    tally.done["SIGKILL of a broker"] += 2
    asked = Writer(cluster.history)
    cluster.wait_until(lambda: _refused(cluster, asked), REFUSED_WITHIN, "commands to be refused without a majority")
    asked.close()
    before = cluster.counter.read()
    cluster.wait(3.0)
    if cluster.counter.read() > before:
        raise ChaosError("commands were acknowledged although two of three brokers were away")
    tally.done["two of three away, refused"] += 1
    for name in names:
        cluster.roles[name].wanted = True
    wait_until_whole(cluster)
    return seconds_until_back(cluster, PATIENCE, "every event again after two of three brokers were away")


def _refused(cluster: Cluster, asked: Writer) -> bool:
    """Posts one command; whether it was refused with a sentence that says that nothing was recorded."""
    op, kind = f"refused-{time.monotonic_ns()}", "LOGIN"
    asked.invoke(op, op, kind, {"op": op})
    body = json.dumps({"userId": op, "eventType": kind, "payload": {"op": op}}).encode()
    headers = {"Content-Type": "application/json"}
    request = Request(cluster.url("command", "/events/generate"), body, headers)  # noqa: S310 - our own address
    try:
        with urlopen(request, timeout=12) as answer:  # noqa: S310
            raise ChaosError(f"a command was answered {answer.status} without a majority of the brokers")
    except HTTPError as error:
        refused = error.code == 503 and "Nothing was recorded" in json.loads(error.read())["error"]
        asked.end(op, "fail" if refused else "info", why=str(error.code))
        return refused
    except (URLError, OSError):
        return False


def _rolling_restart(cluster: Cluster, _fault: Fault, tally: Tally) -> float:
    """Stops each broker in turn, and waits until all copies are in sync before the next."""
    slowest = 0.0
    for name in cluster.servers.broker_names:
        cluster.terminate(name)
        slowest = max(slowest, seconds_until_back(cluster, PATIENCE, f"every event again while {name} restarts"))
        wait_until_whole(cluster)
    tally.done["rolling restart"] += 1
    return slowest


def _reassign(cluster: Cluster, fault: Fault, tally: Tally) -> float:
    """Takes a partition from one broker, gives it back as the last, and so moves its leader and its data."""
    partition = fault.broker
    leaving = fault.broker + 1
    others = [node for node in (1, 2, 3) if node != leaving]
    for copies in (others, [*others, leaving]):
        asyncio.run(_move(cluster, partition, copies))
        cluster.wait_until(lambda c=copies: _copies(cluster, partition) == set(c), 60.0, f"partition at {copies}")  # type: ignore[misc]
    tally.done["partition reassigned"] += 1
    return seconds_until_back(cluster, PATIENCE, "every event again after a partition was moved")


FAULTS: dict[str, Callable[[Cluster, Fault, Tally], float]] = {
    "kill": _kill,
    "kill_controller": _kill_controller,
    "freeze": _freeze,
    "two_of_three": _two_of_three,
    "rolling_restart": _rolling_restart,
    "reassign": _reassign,
}

# --- what is waited for -----------------------------------------------------------------------------------------------


def seconds_until_back(cluster: Cluster, within: float, what: str, since: float | None = None) -> float:
    """Returns the seconds until each partition has a projected event that was accepted after `since` (monotonic).

    None: after now.
    """
    since = time.monotonic() if since is None else since
    sql = PROJECTED_SINCE.format(since=time.time() - (time.monotonic() - since))
    url = cluster.servers.url("owner", cluster.database)
    cluster.wait_until(
        lambda: reading.value(url, sql) == PARTITIONS,
        within - (time.monotonic() - since),
        f"{what} within {within:g} s",
    )
    return time.monotonic() - since


def wait_until_whole(cluster: Cluster) -> None:
    """Waits until every partition has all its copies in sync."""
    cluster.wait_until(lambda: _is_whole(cluster), WHOLE_WITHIN, "all copies to be in sync")


def _is_whole(cluster: Cluster) -> bool:
    partitions = _described(cluster)
    return len(partitions) == PARTITIONS and all(len(p["isr"]) == 3 and p["leader"] > 0 for p in partitions)


def _copies(cluster: Cluster, partition: int) -> set[int]:
    return {node for p in _described(cluster) if p["partition"] == partition for node in p["isr"]}


def _described(cluster: Cluster) -> Sequence[dict[str, Any]]:
    if not cluster.servers.in_service():
        return []
    try:
        return asyncio.run(_describe(cluster))
    except (KafkaError, OSError, TimeoutError):
        return []


async def _describe(cluster: Cluster) -> Sequence[dict[str, Any]]:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.servers.kafka, request_timeout_ms=4_000)
    async with asyncio.timeout(8):
        await admin.start()
        try:
            (topic,) = await admin.describe_topics([cluster.topic])
        finally:
            await admin.close()
    found: Sequence[dict[str, Any]] = topic["partitions"]
    return found


async def _move(cluster: Cluster, partition: int, copies: list[int]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.servers.kafka)
    await admin.start()
    try:
        request = AlterPartitionReassignmentsRequest(
            10_000,
            [(cluster.topic, [(partition, copies, {})], {})],
            {},
        )
        answer = await admin._send_to_controller(request)  # noqa: SLF001 - aiokafka has no call for it
    finally:
        await admin.close()
    codes = [code for _, partitions, _ in answer.responses for _, code, *_ in partitions]
    if answer.error_code or any(codes):
        raise ChaosError(f"the partition was not moved: {answer.error_code}, {codes}")
