"""`footfall privacy rewrite` and a Kafka that refuses: what is left, what is said, and the same step ends it later."""

import asyncio
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka.errors import MessageSizeTooLargeError
from click.testing import CliRunner

from brokers.rights import Operation, Right
from footfall.cli.main import cli
from operations.rewrite.topics import Configs, Topics
from operations.settings import TopicSettings
from operations.setup import create_topics
from tests.conftest import Footfall
from tests.drivers.own_broker import OwnBroker
from tests.drivers.privacy import privacy
from tests.drivers.rebuilding import a_day
from tests.drivers.rewriting import bytes_of, environment_of, rewrite
from tests.drivers.small_disk import SmallDisk, small_disk
from tests.guarded_broker import GuardedBroker, guarded_broker
from tests.processes import wait_until
from tests.producing import Raw, an_event, produce, record_of, sql, start_projector
from tests.servers import Servers

CANARY = "alice+canary@example.com"
OPERATIONS: Sequence[Operation] = ("READ", "WRITE", "CREATE", "DELETE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS")
Step = Callable[..., str]

pytestmark = pytest.mark.timeout(300)  # many commands


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedBroker]:
    with guarded_broker(tmp_path_factory.mktemp("guarded")) as found:
        yield found


@pytest.fixture
def footfall(broker: GuardedBroker, new_database: Callable[[], Servers], tmp_path: Path) -> Iterator[Footfall]:
    """A log with an erased user, of whom it has a dead letter, too."""
    yield from filled(Footfall(replace(new_database(), kafka=broker.admin), f"log-{uuid4()}", tmp_path))


def filled(instance: Footfall) -> Iterator[Footfall]:
    create_topics(
        TopicSettings(
            kafka_bootstrap_servers=instance.servers.kafka,
            kafka_topic=instance.topic,
            kafka_dlq_topic=f"{instance.topic}-dlq",
            kafka_audit_topic=f"{instance.topic}-audit",
        )
    )
    produce(instance, [*a_day(20), *(record_of(an_event(CANARY)) for _ in range(9)), Raw(b"no json", CANARY.encode())])
    start_projector(instance)
    published = "SELECT FROM read_g1.dead_letters WHERE published_at IS NOT NULL"
    wait_until(lambda: len(sql(instance.servers, published)) == 1, 60, "the letter to be published")
    privacy(instance, "erase", CANARY, "--yes")
    yield instance
    instance.close()


def on(topic: str, *operations: Operation) -> list[Right]:
    return [Right(operation, "topic", topic) for operation in operations or OPERATIONS]


@pytest.fixture
def step(footfall: Footfall, broker: GuardedBroker) -> Step:
    """Runs a step as an operator with rights; returns what it says."""
    return stepping(footfall, broker)


def stepping(footfall: Footfall, broker: GuardedBroker) -> Step:
    def run(*arguments: str, code: int = 0) -> str:
        role = {**environment_of(footfall), **broker.as_user}
        ended = CliRunner().invoke(cli, ["privacy", "rewrite", *arguments], env=role)
        assert ended.exit_code == code, f"{ended.output}{ended.exception!r}"
        return " ".join(ended.output.split())

    return run


def grant(broker: GuardedBroker, *rights: Right) -> None:
    asyncio.run(broker.allow(*rights))


def around_closing(monkeypatch: pytest.MonkeyPatch, before: Callable[[], object], after: Callable[[], object]) -> None:
    """Something happens at the last moment before a topic is closed, and as soon as it is."""
    close = Topics.close

    async def closing(self: Topics, topic: str, configs: Configs) -> None:
        await asyncio.to_thread(before)
        await close(self, topic, configs)
        await asyncio.to_thread(after)

    monkeypatch.setattr(Topics, "close", closing)


def takes_records(footfall: Footfall) -> bool:
    try:
        produce(footfall, a_day(1))
    except MessageSizeTooLargeError:
        return False
    return True


def test_topics_that_an_operator_may_not_see_are_not_taken_for_none(
    footfall: Footfall, broker: GuardedBroker, step: Step
) -> None:
    old, letters = footfall.topic, f"{footfall.topic}-dlq"
    new, new_letters = f"{old}.1", f"{letters}.1"
    grant(broker, *on(old), *on(new))
    for name in ("plan", "copy"):
        assert f"does not let this user READ on topic {letters}" in step(name, code=1)
    assert sql(footfall.servers, "SELECT FROM ops.log_rewrites") == [], "nothing was begun"
    grant(broker, *on(letters), *on(new_letters))
    step("copy")
    broker.take_away(*on(new_letters))
    assert f"READ on topic {new_letters}" in step("verify", code=1)
    assert f"DELETE on topic {new_letters}" in step("abandon", "--yes", code=1)
    grant(broker, *on(new_letters))
    step("switch", "--yes")
    broker.take_away(*on(old), *on(letters, "DELETE"))
    refused = step("finish", "--yes", code=1)
    assert f"DELETE on topic {old}" in refused
    assert f"DELETE on topic {letters}" in refused
    assert CANARY in str(bytes_of(footfall, old)), "it is not called deleted"
    grant(broker, *on(old), *on(letters))
    assert "deleted" in step("finish", "--yes")
    assert CANARY not in str({**bytes_of(footfall, new), **bytes_of(footfall, new_letters)})


@pytest.mark.parametrize("lost", ["ALTER_CONFIGS", "READ", "WRITE"])
def test_a_right_that_is_lost_while_the_log_is_closed_is_told_and_the_switch_ends_later(
    footfall: Footfall, broker: GuardedBroker, step: Step, monkeypatch: pytest.MonkeyPatch, lost: Operation
) -> None:
    old, letters = footfall.topic, f"{footfall.topic}-dlq"
    topics = (old, letters, f"{old}.1", f"{letters}.1")
    grant(broker, *(right for topic in topics for right in on(topic)))
    step("copy")
    gone = [right for topic in topics for right in on(topic, lost)]
    with monkeypatch.context() as patched:
        around_closing(patched, lambda: produce(footfall, a_day(12)), lambda: broker.take_away(*gone))
        said = step("switch", "--yes", code=1)
    assert "TopicAuthorizationFailedError" in said
    assert old in said
    if lost == "ALTER_CONFIGS":
        assert "could not be opened again" in said
    assert takes_records(footfall) is (lost != "ALTER_CONFIGS")
    assert f"{lost} on topic {old}" in step("switch", "--yes", code=1)
    grant(broker, *gone)
    step("switch", "--yes")
    step("finish", "--yes")
    assert CANARY not in str(bytes_of(footfall, f"{old}.1"))


def test_a_quota_of_kafka_makes_a_rewrite_slower_and_nothing_else(
    footfall: Footfall, broker: GuardedBroker, step: Step
) -> None:
    """A broker answers such a client late, and never with an error."""
    produce(footfall, [record_of(an_event(CANARY, {"random": secrets.token_hex(2_000)})) for _ in range(12)])
    privacy(footfall, "erase", CANARY, "--yes")
    produce(footfall, [record_of(an_event("bob", {"random": secrets.token_hex(2_000)})) for _ in range(12)])
    names = (footfall.topic, f"{footfall.topic}-dlq")
    grant(broker, *(right for name in names for right in (*on(name), *on(f"{name}.1"))))
    asyncio.run(broker.limit(20_000))
    try:
        for name in ("copy", "verify", "switch --yes", "finish --yes"):
            step(*name.split())
    finally:
        asyncio.run(broker.limit(1e9))
    found = str(bytes_of(footfall, f"{footfall.topic}.1"))
    assert (CANARY in found, found.count("bob") > 12) == (False, True)


def test_brokers_that_delete_no_topic_are_named_and_nothing_is_called_deleted(
    new_database: Callable[[], Servers], tmp_path: Path
) -> None:
    (tmp_path / "keeping").mkdir()
    with guarded_broker(tmp_path / "keeping", "delete.topic.enable=false") as broker:
        instance = Footfall(replace(new_database(), kafka=broker.admin), "kept", tmp_path)
        for footfall in filled(instance):
            rewritten_but_not_deleted(footfall, broker)


def rewritten_but_not_deleted(footfall: Footfall, broker: GuardedBroker) -> None:
    step = stepping(footfall, broker)
    grant(broker, *(right for topic in ("kept", "kept-dlq", "kept.1", "kept-dlq.1") for right in on(topic)))
    step("copy")
    assert "delete.topic.enable=false" in step("abandon", "--yes", code=1)
    assert takes_records(footfall)
    step("copy")
    step("switch", "--yes")
    assert "delete.topic.enable=false" in step("finish", "--yes", code=1)
    assert CANARY in str(bytes_of(footfall, "kept"))
    assert CANARY not in str(bytes_of(footfall, "kept.1"))
    states = sql(footfall.servers, "SELECT state FROM ops.log_rewrites")
    assert [row["state"] for row in states] == ["switched"]


def test_a_broker_whose_disk_is_full_ends_a_step_with_a_sentence_and_there_is_room_again(
    new_database: Callable[[], Servers], tmp_path: Path
) -> None:
    with small_disk() as disk:
        broker = OwnBroker(disk.path)
        try:
            for footfall in filled(Footfall(replace(new_database(), kafka=broker.address), "full", tmp_path)):
                fill_while(footfall, disk, broker, "copy")
                rewrite(footfall, "copy")
                produce(footfall, a_day(30))
                fill_while(footfall, disk, broker, "switch", "--yes")
                for arguments in (("switch", "--yes"), ("finish", "--yes")):
                    rewrite(footfall, *arguments)
                found = bytes_of(footfall, "full.1")
                assert CANARY not in str(found)
                assert len(found) >= 20 + 30 + 10
        finally:
            broker.kill()


def fill_while(footfall: Footfall, disk: SmallDisk, broker: OwnBroker, *step: str) -> None:
    """The step fails, and says of whom; then the disk has room again, and the broker is there."""
    disk.fill()
    said = " ".join(rewrite(footfall, *step, code=1).split())
    assert "Kafka" in said
    assert "unexpected" not in said
    disk.extend()
    broker.kill()
    broker.start()
