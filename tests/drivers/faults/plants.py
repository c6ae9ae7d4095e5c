"""Faults of Footfall's own processes, settings and events, on the servers that all tests share."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from projector.consuming.loop_guard import EXIT_STUCK
from tests.architecture.repository import ROOT
from tests.drivers.faults.world import RUNAWAY, Follow, World, ask
from tests.drivers.rebuilding import dlq, rebuild
from tests.drivers.tls import write
from tests.patience import PATIENCE
from tests.processes import wait_until
from tests.producing import Raw, an_event, produce, record_of, some_records

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)  # Debian's package `faketime`
SHIPPED_TYPES = ROOT / "contracts" / "event_types.toml"
ANOTHER_TYPE = """
[PURCHASE]
description = "Planted."
"""


@contextmanager
def a_poisoned_user(world: World) -> Iterator[Follow]:
    (partition, _), _ = produce(world.footfall, [Raw(b"poison", b"poisoned"), record_of(an_event("poisoned"))])
    yield lambda _words: dlq(world.footfall, "discard", "--partition", str(partition), "--yes")


@contextmanager
def a_defect(world: World) -> Iterator[Follow]:
    ask(world, "ALTER TABLE read_g1.user_activity ADD CONSTRAINT planted CHECK (user_id = '') NOT VALID")
    produce(world.footfall, some_records(40))

    def follow(_words: str) -> None:  # docs/stops.md#defect: repair the schema
        ask(world, "ALTER TABLE read_g1.user_activity DROP CONSTRAINT planted")

    yield follow


@contextmanager
def frozen(world: World) -> Iterator[Follow]:
    world.projector.popen.send_signal(signal.SIGSTOP)
    produce(world.footfall, some_records(20))
    yield lambda _words: world.restart()


@contextmanager
def stands_still(world: World) -> Iterator[Follow]:
    """A consumer that returns nothing any more, without an error (tests/drivers/faults/standing.py)."""
    world.restart(waits=False, module="tests.drivers.faults.standing")
    produce(world.footfall, some_records(20))
    wait_until(lambda: world.projector.popen.poll() is not None, 60, "the watchdog to end the projector")
    assert world.projector.popen.returncode == EXIT_STUCK
    said = world.projector.log_text()
    world.restart()  # as its supervisor does
    world.projector.log.write_text(said)
    yield lambda _words: None
    ask(world, "DELETE FROM ops.journal WHERE action = 'watchdog_ended'")  # an hour later


@contextmanager
def two_catalogues(world: World) -> Iterator[Follow]:
    (path := world.home / "another.toml").write_text(SHIPPED_TYPES.read_text() + ANOTHER_TYPE)
    world.others.append(world.start(waits=False, EVENT_TYPES_FILE=str(path)))

    def follow(_words: str) -> None:  # the same file for all
        world.others.pop().kill()
        world.others.append(world.start(waits=False))

    yield follow
    world.others.pop().kill()


@contextmanager
def a_wrong_clock(world: World) -> Iterator[Follow]:
    if FAKETIME is None:
        pytest.skip("needs libfaketime to move the clock of a machine")
    world.environment.update(LD_PRELOAD=str(FAKETIME), FAKETIME="+600s", FAKETIME_DONT_FAKE_MONOTONIC="1")
    world.restart()

    def follow(words: str) -> None:
        assert "NTP" in words
        world.environment.clear()
        world.restart()

    yield follow


def a_certificate_that_ends(world: World, left: timedelta) -> Iterator[Follow]:
    path, now = world.home / "front.pem", datetime.now(UTC)
    write(world.signer, path, "front", not_before=now - timedelta(days=90), not_after=now + left)
    world.environment["TLS_CERTIFICATE_FILE"] = str(path)
    front = world.start_front()
    front.url = front.url.replace("http:", "https:")

    def serves() -> bool:
        try:
            return httpx.get(f"{front.url}/health/live", verify=False, timeout=PATIENCE).status_code == 200  # noqa: S501
        except httpx.TransportError:
            return False

    wait_until(serves, 30, "the command side with a certificate")

    def follow(words: str) -> None:
        assert "replace the file" in words
        write(world.signer, path, "front", not_after=now + timedelta(days=90))

    with world.with_front(front):
        yield follow
        world.environment.clear()


@contextmanager
def an_expired_certificate(world: World) -> Iterator[Follow]:
    yield from a_certificate_that_ends(world, timedelta(days=-1))


@contextmanager
def a_certificate_near_its_end(world: World) -> Iterator[Follow]:
    yield from a_certificate_that_ends(world, timedelta(days=5))


@contextmanager
def a_rebuild_without_projector(world: World) -> Iterator[Follow]:
    world.projector.kill()
    produce(world.footfall, some_records(20))  # a rebuild of nothing has read everything
    rebuild(world.footfall, "start")

    def follow(words: str) -> None:
        assert "Start a projector" in words
        world.projector = world.start()

    yield follow
    rebuild(world.footfall, "cancel")


@contextmanager
def a_runaway_client(world: World) -> Iterator[Follow]:
    front = world.start_front(LIMIT_ADDRESS="150", LIMIT_WINDOW_MS="10000")
    limited, ended = threading.Event(), threading.Event()

    def run_away() -> None:
        with httpx.Client(transport=httpx.HTTPTransport(local_address=RUNAWAY), timeout=PATIENCE) as client:
            while not ended.wait(0.01):
                with suppress(httpx.TransportError):  # the command side starts
                    if client.get(f"{front.url}/nowhere").status_code == 429:
                        limited.set()

    client = threading.Thread(target=run_away, daemon=True)
    client.start()

    def follow(_words: str) -> None:  # somebody talks to the client
        ended.set()
        client.join(PATIENCE)

    with world.with_front(front):
        try:
            assert limited.wait(PATIENCE)
            yield follow
        finally:
            follow("")
