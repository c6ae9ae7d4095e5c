"""Three real brokers of which one or two die or freeze: nothing acknowledged is lost, and nobody has to help."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from aiokafka.admin import NewTopic

from operations.settings import TopicSettings
from operations.setup import create_topics
from tests.conftest import Footfall
from tests.drivers.erasure import assert_rebuilt_the_same
from tests.drivers.every_command import footfall as command
from tests.drivers.privacy import privacy
from tests.drivers.rewriting import bytes_of, rewrite
from tests.drivers.three_brokers import NODES, ThreeBrokers, three_brokers
from tests.patience import PATIENCE
from tests.processes import wait_until
from tests.producing import (
    an_event,
    assert_exactly_once,
    checkpoints,
    logged,
    metric,
    produce,
    record_of,
    rows,
    start_projector,
    wait_until_processed,
)
from tests.servers import Servers

PARTITIONS = 10
GONE = "gone@example.com"


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreeBrokers]:
    with three_brokers(tmp_path_factory.mktemp("three")) as found:
        yield found


def topic_settings(brokers: ThreeBrokers, topic: str) -> TopicSettings:
    return TopicSettings(
        kafka_bootstrap_servers=brokers.address,
        kafka_topic=topic,
        kafka_dlq_topic=f"{topic}-dlq",
        kafka_audit_topic=f"{topic}-audit",
        kafka_partitions=PARTITIONS,
        kafka_replication_factor=3,
    )


def checked(brokers: ThreeBrokers, topic: str) -> tuple[int, str]:
    settings = topic_settings(brokers, topic)
    environment = {name.upper(): str(getattr(settings, name)) for name in settings.model_fields_set}
    result = command("topics check", **environment)
    return result.exit_code, result.output


def test_topics_are_made_for_three_brokers_and_check_says_what_a_difference_means(brokers: ThreeBrokers) -> None:
    create_topics(topic_settings(brokers, "made"))
    brokers.wait_until_in_sync("made", 3)
    assert len(brokers.partitions("made")) == PARTITIONS
    code, said = checked(brokers, "made")
    assert (code, said.count("as it should be")) == (0, 3), said
    for least, means in (("1", "an acknowledged event may be lost with one broker"), ("3", "cannot spare a broker")):
        brokers.alter("made", retention_ms="-1", min_insync_replicas=least)
        wait_until(lambda means=means: means in checked(brokers, "made")[1], PATIENCE, means)  # type: ignore[misc]
    assert checked(brokers, "made")[0] == 1
    brokers.make(NewTopic("few", 1, 1))
    wait_until(lambda: "it is gone with its disk" in checked(brokers, "few")[1], PATIENCE, "one copy to be named")


class Posting:
    """Commands that keep coming, from a thread; `acknowledged`: the events of the 201s."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/events/generate"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.acknowledged: list[UUID] = []
        self.answers: list[tuple[int, str]] = []

    def __enter__(self) -> "Posting":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        with httpx.Client(timeout=PATIENCE) as client:
            number = 0
            while not self._ended.is_set():
                number += 1
                body = {"userId": f"user-{number % 97}", "eventType": "LOGIN", "payload": {}}
                answer = client.post(self._url, json=body)
                self.answers.append((answer.status_code, answer.json().get("error") or ""))
                if answer.status_code == 201:
                    self.acknowledged.append(UUID(answer.json()["event"]["eventId"]))
                self._ended.wait(0.01)  # the rate of the flow; nothing waits for it


def wait_until_back(footfall: Footfall, what: str) -> None:
    """Waits until every partition has a stored event that was accepted after now."""
    since = time.time()

    def back() -> bool:
        now = {row["kafka_partition"] for row in rows(footfall) if row["occurred_at"].timestamp() > since}
        return len(now) == PARTITIONS

    wait_until(back, PATIENCE, what)


def refused(posting: Posting) -> bool:
    status, error = posting.answers[-1]
    return status == 503 and "Nothing was recorded" in error


@pytest.fixture
def footfall(brokers: ThreeBrokers, new_database: Callable[[], Servers], tmp_path: Path) -> Iterator[Footfall]:
    instance = Footfall(replace(new_database(), kafka=brokers.address), "lasting", tmp_path)
    create_topics(topic_settings(brokers, instance.topic))
    brokers.wait_until_in_sync(instance.topic, 3)
    yield instance
    instance.close()


def test_a_broker_freezes_and_another_dies_and_nothing_acknowledged_is_lost(
    brokers: ThreeBrokers, footfall: Footfall
) -> None:
    projector, side = start_projector(footfall), footfall.start("command-side", PUBLISH_TIMEOUT_MS="5000")
    with Posting(side.url) as posting:
        wait_until_back(footfall, "every partition to be projected")
        frozen, killed, _ = NODES
        brokers.freeze(frozen)
        wait_until_back(footfall, "the others to go on beside a frozen broker")
        brokers.kill(killed)
        wait_until(lambda: refused(posting), PATIENCE, "commands to be refused with a clear answer")
        brokers.thaw(frozen)  # in the belief that it leads what it led
        wait_until_back(footfall, "two of three to go on")
        brokers.start(killed)
        brokers.wait_until_in_sync(footfall.topic, 3)
    wait_until(lambda: set(posting.acknowledged) <= stored(footfall), PATIENCE, "what was acknowledged to be stored")
    assert metric(projector, "partitions_stopped") == 0
    assert logged(projector, "partitions_stopped") == []
    assert_exactly_once(footfall)


def stored(footfall: Footfall) -> set[UUID]:
    return {row["event_id"] for row in rows(footfall)}


@pytest.mark.skipif("FOOTFALL_LONG" not in os.environ, reason="its short form is a log that lost its end")
def test_an_unclean_election_that_loses_the_end_is_noticed_by_name(
    brokers: ThreeBrokers, new_database: Callable[[], Servers], tmp_path: Path
) -> None:
    footfall = Footfall(replace(new_database(), kafka=brokers.address), "unclean", tmp_path)
    unclean = {"min.insync.replicas": "1", "unclean.leader.election.enable": "true"}
    copies = NewTopic("unclean", -1, -1, replica_assignments={0: [1, 2]}, topic_configs=unclean)
    for topic in (copies, NewTopic("unclean-dlq", 1, 3), NewTopic("unclean-audit", 1, 3)):
        brokers.make(topic)
    brokers.wait_until_in_sync("unclean", 2)
    try:
        projector = start_projector(footfall)
        put(footfall, 10)
        brokers.kill(2)
        brokers.wait_until_in_sync("unclean", 1)
        put(footfall, 5)  # only on broker 1
        wait_until_processed(footfall, 15, PATIENCE)
        brokers.kill(1)
        brokers.start(2)
        wait_until(lambda: stopped(footfall) != "", PATIENCE, "the lost end to be noticed")
        assert "history_cut" in stopped(footfall)
        assert "it ends at 10, and the checkpoint is 15" in stopped(footfall)
        assert len(rows(footfall)) == 15, "what was projected stays"
        assert projector.popen.poll() is None
    finally:
        brokers.start(1)
        footfall.close()


def put(footfall: Footfall, count: int) -> None:
    produce(footfall, [record_of(an_event(f"user-{n}"), 0) for n in range(count)])


def stopped(footfall: Footfall) -> str:
    return str(checkpoints(footfall)[0]["stopped_reason"] or "")


@pytest.mark.skipif("FOOTFALL_LONG" not in os.environ, reason="its short form has one broker (test_log_rewrite)")
def test_a_log_of_many_leaders_is_rewritten_while_one_of_them_is_dead(
    brokers: ThreeBrokers, new_database: Callable[[], Servers], tmp_path: Path
) -> None:
    footfall = Footfall(replace(new_database(), kafka=brokers.address), "many", tmp_path)
    try:
        create_topics(topic_settings(brokers, "many"))
        brokers.wait_until_in_sync("many", 3)
        assert {each["leader"] for each in brokers.partitions("many")} == set(NODES)
        produce(footfall, [record_of(an_event(GONE if n % 5 == 0 else f"user-{n % 40}")) for n in range(200)])
        projector = start_projector(footfall)
        wait_until_processed(footfall, 200)
        privacy(footfall, "erase", GONE, "--yes")
        rewrite(footfall, "copy")
        brokers.kill(NODES[0])
        produce(footfall, [record_of(an_event(f"user-{n}")) for n in range(20)])
        rewrite(footfall, "verify")
        rewrite(footfall, "switch", "--yes")
        brokers.start(NODES[0])
        brokers.wait_until_in_sync("many.1", 3)
        assert projector.terminate() == 0
        rewrite(footfall, "finish", "--yes")
        footfall.topic = "many.1"
        told = bytes_of(footfall, "many.1")
        assert GONE not in str(told)
        assert len([key for key, *_ in told.values() if key and key.startswith(b"user-")]) == 180
        start_projector(footfall, KAFKA_DLQ_TOPIC="many-dlq.1", KAFKA_AUDIT_TOPIC="many-audit")
        assert_rebuilt_the_same(footfall)
    finally:
        footfall.close()
