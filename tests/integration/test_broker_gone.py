"""Kafka goes away and comes back: every command is answered in time, and what was answered 201 is there."""

import asyncio
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.metadata import MetadataRequest

from command_side.app import producer_of
from command_side.publishing import kafka_event_log, kafka_producer
from command_side.publishing.event_log import AWAY, FAILED, TOO_LARGE, UNKNOWN, Acknowledged
from command_side.publishing.topic_watch import TopicWatch
from command_side.settings import CommandSettings
from contracts.record import EventRecord
from footfall.local.embedded import StackOptions, embedded_stack
from operations.settings import TopicSettings
from operations.setup import create_topics
from tests.drivers.publishing import publish, started_log
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import Process, start, wait_until
from tests.servers import Servers
from tests.topic_reader import records_of

GENERATE = "/events/generate"
DEADLINE = 1.0  # seconds
OUTAGE = 60.0 if os.environ.get("FOOTFALL_LONG") else 5.0  # seconds
RECOVERY = 15.0  # seconds after Kafka's return
CLIENTS = 8
KAFKA_IS_AWAY = "Kafka does not answer. Nothing was recorded; try again shortly."
NOBODY_KNOWS = (
    "Kafka did not answer in time: whether the event was recorded is unknown. Repeat the request with the same "
    "Idempotency-Key; without one, a repeat may be a second event."
)
NOT_PUBLISHED = "The event could not be published: Kafka did not take it. Nothing was recorded; try again."


class Load:
    """Clients that post one command after the other, and what they were told."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ended = threading.Event()
        self.accepted: list[str] = []
        self.refused: Counter[tuple[int, str]] = Counter()
        self.answered_at = [0.0] * CLIENTS  # monotonic
        self.wrong: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CLIENTS)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def _run(self, number: int) -> None:
        with httpx.Client(base_url=self._url, timeout=PATIENCE) as client:
            while not self._ended.is_set():
                answer = client.post(GENERATE, json={"userId": f"user-{number}", "eventType": "LOGIN"})
                self.answered_at[number] = time.monotonic()
                body = answer.json()
                if answer.status_code == 201:
                    self.accepted.append(body["event"]["eventId"])
                    continue
                self.refused[answer.status_code, body["error"]] += 1
                if (answer.status_code == 503) != ("retry-after" in answer.headers):
                    self.wrong.append(f"{answer.status_code} {answer.headers}")
                self._ended.wait(0.05)  # a client that was refused waits


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """A broker that keeps its connections and says nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def health(side: Process) -> httpx.Response:
    return httpx.get(f"{side.url}/health/ready", timeout=PATIENCE)


@pytest.fixture
def state_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="footfall-") as directory:
        yield Path(directory) / "state"


def test_a_broker_that_is_silent_and_one_that_is_gone(state_dir: Path, tmp_path: Path) -> None:
    """FOOTFALL_LONG=1: away for 60 s each time."""
    options = StackOptions(state_dir, kafka_port=free_port(), durable=False)  # nobody's while it is gone
    settings = {"PUBLISH_TIMEOUT_MS": str(int(DEADLINE * 1000)), "KAFKA_TOPIC": "t"}
    with embedded_stack(options) as stack:
        kafka = stack.kafka_bootstrap
        create_topics(TopicSettings(kafka_bootstrap_servers=kafka, kafka_topic="t", kafka_dlq_topic="t-dlq"))
        side = start("command-side", {**settings, "KAFKA_BOOTSTRAP_SERVERS": kafka}, tmp_path / "side.log")
        with Load(side.url) as silent:
            wait_until(lambda: len(silent.accepted) > 50, 20, "the load to flow")
            with paused(stack.kafka_pid):
                began = time.monotonic()
                wait_until(lambda: silent.refused[503, KAFKA_IS_AWAY] > 0, 10, "the circuit to open")
                state = health(side)
                assert state.status_code == 503
                assert state.json()["dependencies"]["kafka"]["detail"].startswith("the circuit is open")
                assert 'kafka_circuit_state{state="open"} 1.0' in httpx.get(f"{side.url}/metrics").text
                assert httpx.get(f"{side.url}/health/live").status_code == 200
                refused = httpx.post(side.url + GENERATE, json={"userId": "u", "eventType": "LOGIN"}, timeout=PATIENCE)
                assert (refused.status_code, refused.json()["error"]) == (503, KAFKA_IS_AWAY)  # at once
                opened = time.monotonic()
                wait_until(lambda: min(silent.answered_at) > opened, 20, "every client to be answered meanwhile")
                threading.Event().wait(max(0.0, OUTAGE - (time.monotonic() - began)))  # the length of the outage
            assert_recovers(silent)
        wait_until(lambda: health(side).status_code == 200, 10, "readiness")
        assert_answered_well(silent)
        assert silent.refused[503, NOBODY_KNOWS] > 0
        assert set(silent.accepted) <= set(event_ids(kafka))

    with Load(side.url) as gone:  # nothing listens on Kafka's port any more
        wait_until(lambda: gone.refused[503, KAFKA_IS_AWAY] > 0, 20, "the circuit to open")
        threading.Event().wait(OUTAGE if OUTAGE > 5 else 0)
        with embedded_stack(options) as stack:
            assert stack.kafka_bootstrap == kafka
            assert_recovers(gone)
            wait_until(lambda: len(gone.accepted) > 50, 20, "the load to flow")
            gone.__exit__()
            ids = event_ids(kafka)
            assert set(silent.accepted) | set(gone.accepted) <= set(ids)
            assert len(ids) == len(set(ids))  # aiokafka's own retries are idempotent
    assert_answered_well(gone)
    assert side.terminate() == 0  # Kafka is gone again, and the producer has nobody to say goodbye to


def assert_recovers(load: Load) -> None:
    before = len(load.accepted)
    wait_until(lambda: len(load.accepted) > before, RECOVERY, "a command to be accepted after Kafka's return")


def assert_answered_well(load: Load) -> None:
    assert not load.wrong
    assert load.refused.keys() <= {(503, KAFKA_IS_AWAY), (503, NOBODY_KNOWS), (500, NOT_PUBLISHED)}


def event_ids(kafka: str) -> list[str]:
    return [dict(record.headers)["event-id"].decode() for record in records_of(kafka, "t")]


@contextmanager
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(kafka_event_log, "PATIENCE", 0.2)
        patch.setattr(kafka_event_log, "PROBE_INTERVAL", 0.3)
        patch.setattr(kafka_event_log, "STUCK_PROBES", 2)
        patch.setattr(kafka_producer, "CLOSE_TIMEOUT", 0.5)
        yield


def record(n: int) -> EventRecord:
    return EventRecord(f"user-{n % 5}".encode(), b"%d" % n, [])


@pytest.fixture
def topic(new_topic: Callable[..., str]) -> str:
    return new_topic(1)


async def test_a_producer_out_of_sequence_is_replaced_and_nobody_notices(real_servers: Servers, topic: str) -> None:
    log = await started_log(real_servers, topic)
    assert isinstance(await publish(log, record(0)), Acknowledged)
    spoiled = log._producer.current
    spoiled._txn_manager.increment_sequence_number(TopicPartition(topic, 0), 7)  # Kafka will miss seven records
    outcomes = await asyncio.gather(*(publish(log, record(n)) for n in range(1, 50)))
    assert outcomes == [Acknowledged(0, n) for n in range(1, 50)]
    assert log._producer.current is not spoiled
    await log.close()


async def test_a_clock_that_is_hours_ahead_is_named_by_readiness_and_nothing_is_in_doubt(
    real_servers: Servers, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka takes no record whose time is more than an hour ahead of its own clock."""
    log = await started_log(real_servers, topic, timeout=PATIENCE)
    watch = TopicWatch(lambda: log.client, topic, log.times_refused)
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda now=time.time: now() + 7_200)
        assert await publish(log, record(1)) == FAILED
    state = await watch.state()
    assert not state.ok
    assert "synchronise the clocks" in state.detail
    assert isinstance(await publish(log, record(2)), Acknowledged)
    monkeypatch.setattr("command_side.publishing.produce_round.REFUSED_FOR", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda now=time.time: now() + 7_200)
        assert await publish(log, record(3)) == FAILED
    assert (await watch.state()).ok, "it is told for a while only: nobody asks what is not ready"
    await log.close()


async def test_a_round_that_kafka_answers_bit_by_bit_opens_no_circuit(
    real_servers: Servers, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each producer that a refusal costs takes a while here; together they take longer than a silence may.

    The clock of the loop is moved on instead of waiting, so that a slow machine's own time is nothing beside it.
    """
    patience = kafka_event_log.PATIENCE * 20
    monkeypatch.setattr(kafka_event_log, "PATIENCE", patience)  # three make a silence
    loop, moved, renewed = asyncio.get_running_loop(), 0.0, list[float]()
    real_time, renew = loop.time, kafka_producer.KafkaProducer.renew
    monkeypatch.setattr(loop, "time", lambda: real_time() + moved)

    async def slow_renew(self: kafka_producer.KafkaProducer, spoiled: AIOKafkaProducer) -> None:
        nonlocal moved
        moved += 1.2 * patience
        await asyncio.sleep(0.2)  # the log looks at the clock meanwhile
        await renew(self, spoiled)
        renewed.append(loop.time())

    monkeypatch.setattr(kafka_producer.KafkaProducer, "renew", slow_renew)
    log = await started_log(real_servers, topic, timeout=100 * patience)
    too_large = EventRecord(b"user-1", random.Random(1).randbytes(2_000_000), [])  # compression must not help
    outcomes = await asyncio.gather(
        publish(log, too_large), *(publish(log, record(n)) for n in range(15)), return_exceptions=True
    )
    assert outcomes.pop(0) == TOO_LARGE
    assert all(isinstance(outcome, Acknowledged) for outcome in outcomes)
    assert renewed[-1] - renewed[0] > 3 * patience
    assert log.circuit_state == "closed"
    await log.close()


async def test_a_producer_that_hangs_though_kafka_answers_is_replaced(
    real_servers: Servers, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _quick(monkeypatch):
        log = await started_log(real_servers, topic)
        assert isinstance(await publish(log, record(0)), Acknowledged)
        hanging = log._producer.current
        hanging._sender._muted_partitions.add(TopicPartition(topic, 0))  # it takes batches and never sends them
        assert await publish(log, record(1)) == UNKNOWN
        assert await publish(log, record(2)) == AWAY
        async with asyncio.timeout(PATIENCE):
            while log.circuit_state != "closed":  # noqa: ASYNC110 - the circuit tells nobody
                await asyncio.sleep(0.05)
        assert log._producer.current is not hanging
        assert isinstance(await publish(log, record(3)), Acknowledged)
        hanging._sender.sender_task.cancel()  # it would wait for ever
        await log.close()


async def test_a_start_that_is_cancelled_leaves_no_connection_open(
    real_servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = CommandSettings(kafka_bootstrap_servers=real_servers.kafka)
    producer, asked, send = producer_of(settings), asyncio.Event(), AIOKafkaConnection.send
    connections = list[AIOKafkaConnection]()

    def unanswered(self: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
        if not isinstance(request, MetadataRequest):
            return send(self, request, expect_response)
        connections.append(self)
        asked.set()
        return asyncio.get_running_loop().create_future()

    with monkeypatch.context() as patch:
        patch.setattr(AIOKafkaConnection, "send", unanswered)
        start = asyncio.create_task(producer.start())
        await asked.wait()
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
    await producer.stop()
    assert [connection.connected() for connection in connections] == [False]
