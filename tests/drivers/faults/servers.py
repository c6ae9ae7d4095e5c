"""Faults of Kafka: away, slow, without room, with a topic that somebody changed."""

import asyncio
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from operations.settings import TopicSettings
from operations.setup import create_topics
from tests.conftest import Footfall
from tests.drivers.commands import owners_command
from tests.drivers.faults.world import PARTITIONS, Follow, Session, World
from tests.drivers.own_broker import OwnBroker
from tests.drivers.small_disk import small_disk
from tests.drivers.three_brokers import three_brokers
from tests.patience import PATIENCE
from tests.processes import wait_until
from tests.producing import Raw, an_event, produce, record_of, some_records
from tests.topics import add_partitions, make_anew

FROZEN, RUNNING = 1.5, 0.05  # seconds of a slow broker, in turn
HOUR_MS = 3_600_000
SLOWER = """
CREATE FUNCTION public.slower() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1); RETURN NEW; END $$;
CREATE TRIGGER slower BEFORE UPDATE ON read_g1.checkpoints FOR EACH ROW EXECUTE FUNCTION public.slower();
"""


@contextmanager
def own_broker(world: World, home: Path) -> Iterator[OwnBroker]:
    """The stack on a broker of its own, which answers, for the body."""
    home.mkdir(exist_ok=True)
    broker = OwnBroker(home)
    try:
        with world.on(replace(world.footfall.servers, kafka=broker.address)):
            wait_until(lambda: answered(world.front.url) == 201, 30, "a command to be taken")
            yield broker
    finally:
        broker.stop()


def answered(url: str) -> int:
    """The status of a command; 0: nobody answers. 503: nothing was recorded, or nobody knows."""
    body = {"userId": "user-1", "eventType": "LOGIN", "payload": {"text": os.urandom(4000).hex()}}
    try:
        return httpx.post(f"{url}/events/generate", json=body, timeout=PATIENCE).status_code
    except httpx.TransportError:
        return 0


@contextmanager
def broker_away(world: World) -> Iterator[Follow]:
    with own_broker(world, world.home / "broker") as broker:
        broker.kill()

        def follow(words: str) -> None:
            assert "that a broker runs" in words
            broker.start()

        yield follow


@contextmanager
def kafka_disk_full(world: World) -> Iterator[Follow]:
    with small_disk() as disk, own_broker(world, disk.path) as broker:
        disk.fill()
        wait_until(lambda: answered(world.front.url) == 503 and not broker.runs(), 60, "the broker to end")

        def follow(words: str) -> None:
            assert "a full disk" in words
            disk.extend()
            broker.start()

        yield follow


@contextmanager
def one_broker_of_three_away(world: World) -> Iterator[Follow]:
    (home := world.home / "three").mkdir()
    with three_brokers(home) as brokers:

        def make(footfall: Footfall) -> None:
            create_topics(
                TopicSettings(
                    kafka_bootstrap_servers=brokers.address,
                    kafka_topic=footfall.topic,
                    kafka_dlq_topic=f"{footfall.topic}-dlq",
                    kafka_audit_topic=f"{footfall.topic}-audit",
                    kafka_partitions=PARTITIONS,
                    kafka_replication_factor=3,
                )
            )
            brokers.wait_until_in_sync(footfall.topic, 3)

        with world.on(replace(world.footfall.servers, kafka=brokers.address), makes=make):
            brokers.kill(3)

            def follow(words: str) -> None:
                assert "Look at the brokers [3]" in words
                brokers.start(3)

            yield follow


@contextmanager
def a_slow_broker(world: World) -> Iterator[Follow]:
    broker = process_at(urlsplit(f"//{world.footfall.servers.kafka}").port)
    ended = threading.Event()

    def hinder() -> None:
        while not ended.is_set():
            broker.send_signal(signal.SIGSTOP)
            ended.wait(FROZEN)
            broker.send_signal(signal.SIGCONT)
            ended.wait(RUNNING)

    thread = threading.Thread(target=hinder, daemon=True)

    def follow(words: str) -> None:
        assert "disks, copies and load" in words
        ended.set()
        thread.join(PATIENCE)

    thread.start()
    try:
        yield follow
    finally:
        follow("disks, copies and load")


def process_at(port: int | None) -> psutil.Process:
    """Who listens there. Skips the test if it is nobody of this machine."""
    for found in psutil.net_connections("tcp"):
        if found.status == psutil.CONN_LISTEN and found.laddr[1:] == (port,) and found.pid:
            return psutil.Process(found.pid)
    pytest.skip("Kafka does not run on this machine")


async def _configure(footfall: Footfall, **configs: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=footfall.servers.kafka)
    await admin.start()
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, footfall.topic, configs)])
    await admin.close()


@contextmanager
def a_short_retention(world: World) -> Iterator[Follow]:
    """Events are kept for an hour, and those that come next are 40 minutes old, since PostgreSQL is slow."""
    world.projector.kill()
    asyncio.run(_configure(world.footfall, **{"retention.ms": str(HOUR_MS)}))
    late, made = somebody_beside(world.footfall, "traced", "healed"), round((time.time() - 40 * 60) * 1000)
    records = [record_of(an_event(late)) for _ in range(3_000)]
    produce(world.footfall, [Raw(each.value, each.key, timestamp_ms=made) for each in records])

    with closing(Session(world.footfall.servers)) as session:
        session.run(SLOWER)
        world.projector = world.start(BATCH_MAX_RECORDS="10", WATCHDOG_INTERVAL_MS="30000")

        def follow(words: str) -> None:
            assert words.endswith("--add-config retention.ms=-1")
            asyncio.run(_configure(world.footfall, **{"retention.ms": "-1"}))
            session.run("DROP FUNCTION public.slower CASCADE")  # the lag is another fault

        yield follow
    world.restart()


def somebody_beside(footfall: Footfall, *users: str) -> str:
    """A user in another partition than these are."""
    theirs = {partition for partition, _ in produce(footfall, [record_of(an_event(user)) for user in users])}
    for number in itertools.count():
        ((partition, _),) = produce(footfall, [record_of(an_event(f"late-{number}"))])
        if partition not in theirs:
            return f"late-{number}"
    raise AssertionError


@contextmanager
def a_topic_made_anew(world: World) -> Iterator[Follow]:
    produce(world.footfall, some_records(20))
    make_anew(world.footfall, PARTITIONS)

    def follow(words: str) -> None:
        assert "docs/stops.md#another_history" in words
        assert owners_command(world.footfall, "gaps", "accept-history", "--yes").returncode == 0

    yield follow


@contextmanager
def partitions_added(world: World) -> Iterator[Follow]:
    add_partitions(world.footfall, PARTITIONS + 6)
    produce(world.footfall, [record_of(an_event(f"user-{n}"), n % (PARTITIONS + 6)) for n in range(60)])
    yield lambda _words: None
