"""Rights that Kafka withholds are said by health, before anybody is turned away by them."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from brokers.rights import Right
from operations.settings import TopicSettings
from operations.setup import create_topics
from tests.conftest import Footfall
from tests.drivers.commands import as_json, status_here
from tests.guarded_broker import GuardedBroker, guarded_broker
from tests.processes import Process, wait_until
from tests.producing import produce, some_records, wait_until_processed
from tests.servers import Servers

PATIENCE = 60.0  # seconds

pytestmark = pytest.mark.timeout(300)  # many commands, each a process
COMMAND = {"userId": "user-1", "eventType": "LOGIN", "payload": {}}


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedBroker]:
    with guarded_broker(tmp_path_factory.mktemp("guarded")) as found:
        yield found


@pytest.fixture
def footfall(broker: GuardedBroker, new_database: Callable[[], Servers], tmp_path: Path) -> Iterator[Footfall]:
    create_topics(TopicSettings(kafka_bootstrap_servers=broker.admin, kafka_topic="t", kafka_dlq_topic="t-dlq"))
    instance = Footfall(replace(new_database(), kafka=broker.admin), "t", tmp_path)
    yield instance
    instance.close()


def dependency(process: Process, name: str) -> tuple[int, Any]:
    """The status of /health, and what it says of one dependency; 0 while the process does not answer."""
    assert process.popen.poll() is None, process.log_text()[-3_000:]
    try:
        answer = httpx.get(f"{process.url}/health", timeout=10)
    except httpx.TransportError:
        return 0, {"detail": ""}
    return answer.status_code, answer.json()["dependencies"][name]


def assert_a_command_side_without_rights_says_which_it_needs(footfall: Footfall, broker: GuardedBroker) -> None:
    process = footfall.start("command-side", ready=False, **broker.as_user)
    assert process.popen.wait(PATIENCE) == 1
    assert (
        "Kafka does not allow the principal of KAFKA_SASL_USERNAME to produce. It needs Write on topic t: "
        "kafka-acls.sh --add --allow-principal User:.. --operation Write --topic t"
    ) in process.log_text()
    assert "Traceback" not in process.log_text()


def test_what_kafka_does_not_allow_is_said_and_what_it_then_allows_is_used(
    footfall: Footfall, broker: GuardedBroker
) -> None:
    assert_a_command_side_without_rights_says_which_it_needs(footfall, broker)
    asyncio.run(
        broker.allow(Right("DESCRIBE", "topic", "*"), Right("WRITE", "topic", "another"))
    )  # so that it may produce at all
    command_side = footfall.start("command-side", ready=False, **broker.as_user)
    projector = footfall.start("projector", ready=False, **broker.as_user)

    wait_until(lambda: "WRITE" in dependency(command_side, "kafka")[1]["detail"], PATIENCE, "the lack of WRITE")
    assert dependency(command_side, "kafka")[0] == 503
    assert httpx.post(f"{command_side.url}/events/generate", json=COMMAND, timeout=40).status_code >= 500
    refusal = "GroupAuthorizationFailedError"
    wait_until(lambda: refusal in dependency(projector, "partitions")[1]["detail"], PATIENCE, "the lack of the group")
    assert dependency(projector, "partitions")[0] == 503
    assert httpx.get(f"{projector.url}/health/live", timeout=10).status_code == 200

    asyncio.run(broker.allow(Right("WRITE", "topic", "*"), Right("READ", "topic", "*"), Right("READ", "group", "*")))
    wait_until(lambda: dependency(command_side, "kafka")[0] == 200, PATIENCE, "the command side to be well")
    assert httpx.post(f"{command_side.url}/events/generate", json=COMMAND, timeout=40).status_code == 201
    wait_until_processed(footfall, 1, PATIENCE)
    wait_until(lambda: dependency(projector, "partitions")[0] == 200, PATIENCE, "the projector to be well")

    detail = dependency(command_side, "kafka")[1]["detail"]
    assert "could not be checked: TopicAuthorizationFailedError" in detail  # unknown is not good, and no failure
    found = as_json(status_here(footfall, "--json", **broker.as_user))
    assert any("could not be checked" in warning for warning in found["warnings"])
    asyncio.run(broker.allow(Right("DESCRIBE_CONFIGS", "topic", "*")))
    assert as_json(status_here(footfall, "--json", **broker.as_user))["warnings"] == []
    produce(footfall, some_records(10))
    wait_until_processed(footfall, 11, PATIENCE)


def test_a_rule_that_denies_only_describe_is_told_from_a_right_that_is_missing(
    footfall: Footfall, broker: GuardedBroker
) -> None:
    """Whoever looks for the missing WRITE finds it given: the topic is hidden."""
    given = [Right("WRITE", "topic", "*"), Right("READ", "topic", "*"), Right("READ", "group", "*")]
    asyncio.run(broker.allow(*given))
    projector = footfall.start("projector", ready=True, **broker.as_user)
    command_side = footfall.start("command-side", ready=True, **broker.as_user)
    broker.deny(Right("DESCRIBE", "topic", "t-dlq"), Right("DESCRIBE", "topic", "t"))
    told = "WRITE to topic t (nor DESCRIBE it)"
    wait_until(lambda: told in dependency(command_side, "kafka")[1]["detail"], PATIENCE, "the command side to say it")
    told = "READ on topic t (nor DESCRIBE it), WRITE on topic t-dlq (nor DESCRIBE it)"
    wait_until(lambda: told in dependency(projector, "kafka")[1]["detail"], PATIENCE, "the projector to say it")
    found = as_json(status_here(footfall, "--json", **broker.as_user))
    assert "does not let this user DESCRIBE on topic t" in str(found["problems"]), found
