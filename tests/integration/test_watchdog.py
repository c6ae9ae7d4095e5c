"""A projector that stands still says so and ends; one that has nothing to do, or a reason to wait, does neither."""

import asyncio
import gc
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer
from pydantic import SecretStr

from footfall.local.embedded import spawn_child
from operations.settings import TopicSettings
from operations.setup import create_topics
from projector.app import run_projector
from projector.consuming import fetch, run
from projector.consuming.loop_guard import EXIT_STUCK, LoopGuard
from projector.liveness import watchdog
from projector.liveness.watchdog import StuckError
from projector.settings import ProjectorSettings
from telemetry.health import LIVENESS, DependencyState, Probe
from tests.conftest import Footfall
from tests.drivers.own_broker import OwnBroker
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import Process, wait_until
from tests.producing import (
    Raw,
    an_event,
    produce,
    produce_transactions,
    record_of,
    some_records,
    sql,
    wait_until_processed,
)
from tests.servers import Servers
from tests.shipped_types import SHIPPED
from tests.tcp_proxy import tcp_proxy

INTERVAL = 1.0  # seconds
SPAN = 2.6  # seconds
FETCH = 0.3  # seconds of a fetch in vain: whatever else a turn of a lane takes has the rest of a span


# A projector that ends as stuck does not wait for aiokafka to close: the collector closes the rest, now or then.
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed AIOKafka:ResourceWarning")


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What a test left is collected with it."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LEAST_SPAN", SPAN)
    monkeypatch.setattr(fetch, "FETCH_TIMEOUT", FETCH)
    monkeypatch.setattr(run, "FETCH_TIMEOUT", FETCH)
    # It ends the process, which here is the tests' own; `harmed` is for that.
    monkeypatch.setattr(watchdog, "LoopGuard", lambda _: LoopGuard(PATIENCE))


class Here:
    """A projector in this process, which a test may tamper with; `probes` are what it would serve."""

    def __init__(self, footfall: Footfall, database_url: str | None = None) -> None:
        self._settings = ProjectorSettings(
            database_url=SecretStr(database_url or footfall.servers.projector_url),
            kafka_bootstrap_servers=footfall.servers.kafka,
            kafka_topic=footfall.topic,
            kafka_group_id=footfall.group,
            kafka_session_timeout_ms=2_000,
            kafka_heartbeat_interval_ms=300,
            watchdog_interval_ms=int(INTERVAL * 1000),
        )
        self.loop = asyncio.new_event_loop()
        self.states: list[DependencyState] = []  # of liveness, ten a second
        self.failure: BaseException | None = None
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Here":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stop.set)
        self.wait()

    def wait(self, within: float = PATIENCE) -> None:
        """Until it has ended."""
        self._thread.join(within)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            try:
                runner.run(run_projector(self._settings, SHIPPED, self._stop, self._serve))
            except BaseExceptionGroup as group:
                self.failure = group

    @asynccontextmanager
    async def _serve(self, probes: Mapping[str, Probe]) -> AsyncIterator[None]:
        async def ask() -> None:
            while True:
                self.states.append(await probes[LIVENESS]())
                await asyncio.sleep(0.1)

        asking = asyncio.create_task(ask())
        try:
            yield
        finally:
            asking.cancel()

    def stuck_reasons(self) -> set[str]:
        return {state.detail for state in self.states if not state.ok}

    def assert_ended_stuck(self) -> None:
        assert self.failure is not None
        assert isinstance(self.failure, BaseExceptionGroup)
        found, others = self.failure.split(StuckError)
        assert found is not None
        assert others is None


def test_a_consumer_that_returns_nothing_is_noticed_and_the_projector_ends(
    footfall: Footfall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What aiokafka's issues 625, 847 and 1154 look like from here: no error, no records, for ever."""
    real, mute = AIOKafkaConsumer.getmany, threading.Event()
    in_vain: list[float] = []

    async def getmany(consumer: Any, *partitions: Any, **options: Any) -> Any:
        if mute.is_set() and consumer._group_id is not None:
            await asyncio.sleep(0.1)
            in_vain.append(time.monotonic())
            return {}
        return await real(consumer, *partitions, **options)

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", getmany)
    with Here(footfall) as projector:
        produce(footfall, some_records(100))
        wait_until_processed(footfall, 100)
        mute.set()
        wait_until(lambda: len(in_vain) > 12, 20, "fetches in vain by every lane")
        produce(footfall, [record_of(an_event(), 4)])
        began = time.monotonic()
        wait_until(lambda: bool(projector.stuck_reasons()), 2 * SPAN + INTERVAL + 1, "the liveness to turn")
        assert time.monotonic() - began > INTERVAL
        projector.wait()
    assert all("read_g1: partition 4 is stuck at" in reason for reason in projector.stuck_reasons())
    projector.assert_ended_stuck()


@pytest.mark.parametrize("name", ["lane 1", "claim loop"])
def test_a_task_that_was_lost_is_noticed(footfall: Footfall, name: str) -> None:
    with Here(footfall) as projector:
        produce(footfall, some_records(100))
        wait_until_processed(footfall, 100)

        def lose() -> None:
            (task,) = [task for task in asyncio.all_tasks(projector.loop) if task.get_name() == name]
            task.cancel()

        projector.loop.call_soon_threadsafe(lose)
        projector.wait()
    assert projector.stuck_reasons() == {f"read_g1: {name} has ended"}
    projector.assert_ended_stuck()


def test_an_idle_topic_is_healthy_and_so_is_one_that_ends_with_what_nobody_reads(footfall: Footfall) -> None:
    """An aborted transaction and the markers lie beyond the checkpoint for ever."""
    parts = [(True, [record_of(an_event("a"), 0)]), (False, [record_of(an_event("b"), 0), Raw(b"", partition=1)])]
    asyncio.run(produce_transactions(footfall.servers.kafka, footfall.topic, parts))
    with Here(footfall) as projector:
        wait_until_processed(footfall, 1)
        count = len(projector.states)
        wait_until(lambda: len(projector.states) >= count + 10 * 2 * SPAN, 30, "two spans")
        produce(footfall, some_records(50))
        wait_until_processed(footfall, 51)
    assert projector.stuck_reasons() == set()
    assert projector.failure is None


def test_postgresql_away_is_a_reason_to_wait(footfall: Footfall) -> None:
    where = footfall.servers.projector_url.rpartition("@")[2].partition("/")[0]
    host, _, port = where.partition(":")
    with tcp_proxy(host, int(port or 5432)) as proxy:
        with Here(footfall, proxy.in_front_of(footfall.servers.projector_url)) as projector:
            produce(footfall, some_records(100))
            wait_until_processed(footfall, 100)
            proxy.cut()
            produce(footfall, some_records(100))
            count = len(projector.states)
            wait_until(lambda: len(projector.states) >= count + 10 * 2 * SPAN, 30, "two spans")
            proxy.mend()
            wait_until_processed(footfall, 200)
        assert projector.stuck_reasons() == set()
        assert projector.failure is None


def test_kafka_away_is_a_reason_to_wait(
    own_broker: OwnBroker, new_database: Callable[[], Servers], tmp_path: Path
) -> None:
    topics = TopicSettings(kafka_bootstrap_servers=own_broker.address, kafka_topic="t", kafka_dlq_topic="t-dlq")
    create_topics(topics)
    footfall = Footfall(replace(new_database(), kafka=own_broker.address), "t", tmp_path)
    with Here(footfall) as projector:
        produce(footfall, some_records(100))
        wait_until_processed(footfall, 100)
        own_broker.send_signal(signal.SIGSTOP)
        count = len(projector.states)
        wait_until(lambda: len(projector.states) >= count + 10 * 3 * SPAN, 40, "three spans")
        own_broker.send_signal(signal.SIGCONT)
        produce(footfall, some_records(100))
        wait_until_processed(footfall, 200)
    assert projector.stuck_reasons() == set()
    assert projector.failure is None


HARMED = """
import sys, threading
from footfall.cli.main import main
from projector.writing import apply
from projector.consuming import run
from projector.liveness import watchdog

watchdog.LEAST_SPAN = {span}
{harm}
sys.argv = ["footfall", "projector", "--port", "{port}"]
main()
"""
DEADLOCK = "apply.assemble = lambda *_: threading.Event().wait()"
MUTE = """
async def fetch(self, *_):
    import asyncio
    await asyncio.sleep(0.1)
    return {}

run.Fetcher.fetch = fetch
"""


@pytest.fixture
def harmed(footfall: Footfall, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts a real process, with some of its code replaced."""
    started: list[Process] = []

    def start(harm: str, interval: float = INTERVAL) -> Process:
        port = free_port()
        program = HARMED.format(span=SPAN, harm=harm, port=port)
        settings = {
            "DATABASE_URL": footfall.servers.projector_url,
            "WATCHDOG_INTERVAL_MS": str(int(interval * 1000)),
            "ENVIRONMENT": "test",
            **footfall.environment(),
        }
        log = tmp_path / "projector.log"
        popen = spawn_child(
            [sys.executable, "-c", program], death_signal=signal.SIGKILL, env={**os.environ, **settings}, log_path=log
        )
        started.append(Process(popen, f"http://127.0.0.1:{port}", log))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def test_a_process_whose_loop_is_deadlocked_ends_by_itself(footfall: Footfall, harmed: Callable[..., Process]) -> None:
    projector = harmed(DEADLOCK)
    produce(footfall, some_records(10))
    assert projector.popen.wait(PATIENCE) == EXIT_STUCK
    assert '"reason": "the event loop is blocked"' in projector.log_text()
    assert notes_of_ends(footfall) == ["the event loop is blocked"]


def notes_of_ends(footfall: Footfall) -> list[str]:
    """What the processes that their watchdog ended left for the metric of the next ones."""
    found = sql(footfall.servers, "SELECT detail->>'reason' FROM ops.journal WHERE action = 'watchdog_ended'")
    return [reason for (reason,) in found]


def test_a_stuck_process_answers_503_with_the_reason_and_then_exits_70(
    footfall: Footfall, harmed: Callable[..., Process]
) -> None:
    projector = harmed(MUTE, 8.0)  # seconds; it answers 503 for as long
    wait_until(lambda: live(projector)[0] == 200, 20, "the process to live")
    produce(footfall, some_records(60))
    answers: list[tuple[int, dict[str, Any]]] = []  # the last one is asserted: a later one may find the process gone

    def turned() -> bool:
        answers.append(live(projector))
        return answers[-1][0] == 503

    wait_until(turned, 2 * SPAN + INTERVAL + 5, "the liveness to turn")
    status, said = answers[-1]
    assert (status, said["status"]) == (503, "stuck")
    assert "is stuck at 0, and the log ends at" in said["reason"]
    assert projector.popen.wait(PATIENCE) == EXIT_STUCK
    assert "projector_stuck" in projector.log_text()
    (note,) = notes_of_ends(footfall)
    assert "is stuck at 0" in note


def live(projector: Process) -> tuple[int, dict[str, Any]]:
    assert projector.popen.poll() is None, projector.log_text()
    try:
        answer = httpx.get(f"{projector.url}/health/live", timeout=PATIENCE)
    except httpx.TransportError:
        return 0, {}
    return answer.status_code, answer.json()
