"""Faults of servers that a test has for itself, or that it slows down: full disks, a slow broker, a topic changed."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.drivers.commands import owners_command
from tests.drivers.faults.world import PARTITIONS, Follow, World
from tests.drivers.own_broker import OwnBroker
from tests.drivers.small_disk import small_disk
from tests.own_postgres import own_postgres
from tests.patience import PATIENCE
from tests.processes import wait_until
from tests.producing import an_event, produce, record_of, some_records
from tests.topics import add_partitions, make_anew

FROZEN, RUNNING = 1.5, 0.05  # seconds of a slow broker, in turn


@contextmanager
def postgresql_disk_full(world: World) -> Iterator[Follow]:
    kafka = world.footfall.servers.kafka
    with small_disk() as disk, own_postgres(within=disk.path) as postgres, world.on(postgres.servers(kafka)):
        disk.fill()
        produce(world.footfall, some_records(20))
        wait_until(lambda: "DiskFullError" in world.projector.log_text(), 30, "a batch that finds no room")

        def follow(words: str) -> None:
            assert "Extend the disk" in words
            disk.extend()

        yield follow


@contextmanager
def kafka_disk_full(world: World) -> Iterator[Follow]:
    with small_disk() as disk:
        broker = OwnBroker(disk.path)
        try:
            with world.on(replace(world.footfall.servers, kafka=broker.address)):
                front = world.footfall.start("command-side")
                assert answered(front.url) == 201
                disk.fill()
                wait_until(lambda: answered(front.url) == 503 and not broker.runs(), 60, "the broker to end")

                def follow(words: str) -> None:
                    assert "a full disk" in words
                    disk.extend()
                    broker.start()

                yield follow
        finally:
            broker.stop()


def answered(url: str) -> int:
    """The status of a command. 503: nothing was recorded, or nobody knows."""
    body = {"userId": "user-1", "eventType": "LOGIN", "payload": {"text": os.urandom(4000).hex()}}
    return httpx.post(f"{url}/events/generate", json=body, timeout=PATIENCE).status_code


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


@contextmanager
def a_runaway_client(world: World) -> Iterator[Follow]:
    front = world.footfall.start("command-side", ready=False, LIMIT_ADDRESS="20", LIMIT_WINDOW_MS="60000")

    def is_limited() -> bool:
        try:
            return httpx.get(f"{front.url}/nowhere", timeout=PATIENCE).status_code == 429
        except httpx.TransportError:
            return False

    wait_until(is_limited, 30, "the client to be refused")
    yield lambda _words: None
    wait_until(is_limited, 30, "the limit to hold as long as the client goes on")
