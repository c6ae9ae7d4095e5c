"""How long a killed leader is felt by commands and rows: three brokers, and Footfall with its own settings."""

import asyncio
import itertools
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import httpx
import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from rich.console import Console

from bench.projecting.drain import EVERYTHING, fresh_database, in_database
from bench.result import Result, absolute
from bench.stage import Stage, StageError, free_port
from footfall.local.embedded.child_process import stop_children
from footfall.local.embedded.kafka.broker import KAFKAS_SESSION_MS, SESSION_MS, KafkaBroker
from footfall.local.embedded.kafka.cluster import KafkaCluster
from footfall.local.embedded.kafka.jars import ensure_kafka_jars
from footfall.local.embedded.paths import StatePaths
from operations.settings import TopicSettings
from operations.setup import create_topics

NODES = (1, 2, 3)
PARTITIONS = 10
ROUNDS = 10  # kills of a leader; the figures are of all rounds
CLIENTS = 20  # each posts one command after the other
PAUSE = 0.05  # seconds between an answer and the next command of one client
WITHIN = 15.0  # seconds: what the reliability page promises
GIVE_UP = 120.0  # seconds
FIRST_ROWS = """
SELECT kafka_partition, extract(epoch FROM min(projected_at))::float8 FROM read_g1.processed_events
WHERE occurred_at > to_timestamp($1) GROUP BY kafka_partition
"""


class Acknowledged(msgspec.Struct, frozen=True):
    """A command that was answered 201: when it was sent and answered (epoch seconds), and its partition."""

    sent: float
    answered: float
    partition: int


class Felt(msgspec.Struct, frozen=True):
    """Seconds from the kill, of the partitions that the killed broker led: Kafka takes records, first 201, rows.

    `elected`: each has another leader and as many copies in sync as a record needs, which is Kafka's part of the rest.
    """

    elected: float
    acknowledged: float
    visible: float
    all_visible: float


def failover(stage: Stage) -> list[Result]:
    """Seconds from the kill of a leader to the first 201 and row of its partitions; 10 kills, three brokers."""
    # FOOTFALL_LONG: brokers with Kafka's default, who notice a death three times as late.
    name, session = ("_kafkas_session", KAFKAS_SESSION_MS) if os.environ.get("FOOTFALL_LONG") else ("", SESSION_MS)
    felt = measured(stage, session)
    rows = []
    for what in ("elected", "acknowledged", "visible", "all_visible"):
        values = [getattr(one, what) for one in felt]
        rows.append(absolute(f"failover_{what}{name}_p50", "s", values))
        rows.append(absolute(f"failover_{what}{name}_slowest", "s", [max(values)]))
    stage.say(f"failover: {sum(one.all_visible <= WITHIN for one in felt)} of {len(felt)} within {WITHIN:g} s")
    return rows


def measured(stage: Stage, session_ms: int) -> list[Felt]:
    """Kills the leader of the first partition again and again, each time when all copies are in sync."""
    admin_url = fresh_database(stage, stage.stack.admin_url)
    topic = f"bench-failover-{session_ms}"
    with three_brokers(stage, session_ms) as cluster, ExitStack() as running:
        create_topics(
            TopicSettings(
                kafka_bootstrap_servers=cluster.bootstrap,
                kafka_topic=topic,
                kafka_dlq_topic=f"{topic}-dlq",
                kafka_audit_topic=f"{topic}-audit",
                kafka_partitions=PARTITIONS,
                kafka_replication_factor=len(NODES),
            )
        )
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap,
            "KAFKA_TOPIC": topic,
            "KAFKA_DLQ_TOPIC": f"{topic}-dlq",
            "KAFKA_AUDIT_TOPIC": f"{topic}-audit",
            "DATABASE_URL": in_database(stage.stack.projector_url, "bench"),
            "PROJECTOR_PORT": "0",
        }
        port = free_port()
        running.enter_context(stage.process("failover-projector", *EVERYTHING, environment=environment))
        side = ("footfall", "command-side", "--port", str(port))
        running.enter_context(stage.process("failover-side", *side, port=port, environment=environment))
        return asyncio.run(kills(stage, cluster, admin_url, f"http://127.0.0.1:{port}/events/generate", topic))


@contextmanager
def three_brokers(stage: Stage, session_ms: int) -> Iterator[KafkaCluster]:
    """Runs a cluster of its own beside the stage's broker."""
    home = stage.directory / f"three-{session_ms}"
    home.mkdir()
    paths, jars = StatePaths(home), ensure_kafka_jars(Console(quiet=True))
    controllers = tuple(free_port() for _ in NODES)
    cluster = KafkaCluster(
        [
            KafkaBroker(
                paths.broker(node),
                jars,
                free_port(),
                controllers[node - 1],
                node=node,
                controllers=controllers,
                session_ms=session_ms,
            )
            for node in NODES
        ]
    )
    cluster.finish_format(cluster.begin_format())
    try:
        cluster.start()
        cluster.wait()
        yield cluster
    finally:
        for child in cluster.children:
            child.process.kill()
        stop_children(cluster.children)


async def kills(stage: Stage, cluster: KafkaCluster, database_url: str, url: str, topic: str) -> list[Felt]:
    """Posts all the time; returns what each kill was felt by."""
    acknowledged: list[Acknowledged] = []
    found: list[Felt] = []
    async with posting(url, acknowledged), asyncio.timeout(ROUNDS * GIVE_UP):
        watch = await asyncpg.connect(database_url)
        try:
            await rows_of(watch, time.time(), set(range(PARTITIONS)))
            for number in range(1, ROUNDS + 1):
                leaders = await leaders_in_sync(cluster, topic)
                victim, controller = leaders[0], cluster.controller()
                led = {partition for partition, leader in leaders.items() if leader == victim}
                killed_at = time.time()
                cluster.process(victim).kill()
                elected, rows = await asyncio.gather(
                    elected_at(cluster, topic, victim, led), rows_of(watch, killed_at, led)
                )
                first = min(a.answered for a in acknowledged if a.sent > killed_at and a.partition in led)
                times = [rows[partition] - killed_at for partition in led]
                found.append(Felt(elected - killed_at, first - killed_at, min(times), max(times)))
                role = ", the controller" if victim == controller else ""
                stage.say(f"failover, {number}/{ROUNDS}: broker {victim}{role}, led {len(led)}: {found[-1]}")
                cluster.process(victim).wait()
                cluster.start_node(victim)
        finally:
            await watch.close()
    return found


@asynccontextmanager
async def posting(url: str, acknowledged: list[Acknowledged]) -> AsyncIterator[None]:
    """Keeps clients posting during the body."""
    async with httpx.AsyncClient(timeout=GIVE_UP) as client, asyncio.TaskGroup() as tasks:
        clients = [tasks.create_task(post(client, url, seed, acknowledged)) for seed in range(CLIENTS)]
        yield
        for one in clients:
            one.cancel()


async def post(client: httpx.AsyncClient, url: str, seed: int, acknowledged: list[Acknowledged]) -> None:
    """Posts one command after the other, of users of every partition."""
    chance = random.Random(seed)
    for number in itertools.count():
        body = {"userId": f"user-{chance.randrange(10_000)}", "eventType": "LOGIN", "payload": {"n": number}}
        sent = time.time()
        answer = await client.post(url, json=body)
        if answer.status_code == 201:
            partition = int(answer.headers["footfall-position"].partition("-")[0])
            acknowledged.append(Acknowledged(sent, time.time(), partition))
        await asyncio.sleep(PAUSE)


async def rows_of(watch: asyncpg.Connection, since: float, partitions: set[int]) -> dict[int, float]:
    """Waits until each partition has a row of an event that happened after `since`; returns when each was stored."""
    async with asyncio.timeout(GIVE_UP):
        while True:
            rows: dict[int, float] = {row[0]: row[1] for row in await watch.fetch(FIRST_ROWS, since)}
            if partitions <= rows.keys():
                return rows
            await asyncio.sleep(0.1)


async def leaders_in_sync(cluster: KafkaCluster, topic: str) -> dict[int, int]:
    """Waits until every copy is in sync; returns the leader of each partition."""
    deadline = time.monotonic() + GIVE_UP
    while time.monotonic() < deadline:
        partitions = await described(cluster, topic)
        if partitions and all(len(each["isr"]) == len(NODES) and each["leader"] > 0 for each in partitions):
            return {each["partition"]: each["leader"] for each in partitions}
        await asyncio.sleep(0.5)
    raise StageError(f"the copies of {topic} are not in sync after {GIVE_UP:g} s")


async def elected_at(cluster: KafkaCluster, topic: str, victim: int, led: set[int]) -> float:
    """Waits until each partition has another leader and two copies in sync; returns when that was seen."""
    async with asyncio.timeout(GIVE_UP):
        while True:
            able = {
                each["partition"]
                for each in await described(cluster, topic)
                if each["leader"] not in (-1, victim) and len(set(each["isr"]) - {victim}) >= len(NODES) - 1
            }
            if led <= able:
                return time.time()
            await asyncio.sleep(0.1)


async def described(cluster: KafkaCluster, topic: str) -> Sequence[dict[str, Any]]:
    """Returns the topic's partitions; none while no broker tells."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it says of each try that a killed broker is away
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap, request_timeout_ms=5_000)
    try:
        await admin.start()
        [found] = await admin.describe_topics([topic])
    except (KafkaError, OSError):
        return []
    finally:
        await admin.close()
    return list(found["partitions"])
