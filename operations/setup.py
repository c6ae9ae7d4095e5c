"""Migrates the schema and creates the topics: what an operator does before the first start."""

import asyncio
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaTimeoutError, TopicAlreadyExistsError, TopicAuthorizationFailedError, for_code
from alembic import command
from alembic.config import Config

import migrations
from brokers.diagnosis import with_reason
from contracts.topic_promises import Wanted, broken_promises
from operations.settings import MigrateSettings, TopicSettings
from projector.consuming.topic_description import describe_with
from read_model.connecting.pool import connect

# The topic is the only full history of events, and a broker's default retention would delete it after a week.
KEEP_FOR_EVER = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}

TOPIC_TIMEOUT = 30.0  # seconds until a broker must show a topic that its controller has accepted
TOPIC_POLL = 0.05  # seconds


def migrate(settings: MigrateSettings, revision: str = "head", *, patience: float | None = None) -> None:
    """Upgrades the schema to `revision`.

    Args:
        settings: Names the database, as its owner.
        revision: An alembic revision.
        patience: Seconds to wait for a lock; None: 60 for another migration, 8 for sessions that use the tables.

    Raises:
        CommandError: Another session held a lock for longer; the text names the session.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["patience"] = patience
    config.attributes["connect"] = partial(connect, settings.database_url.get_secret_value(), "footfall-migrate")
    command.upgrade(config, revision)


class TopicOutcome(msgspec.Struct, frozen=True):
    """What happened to one topic. `differs`: a sentence for each way in which it differs from a newly created one."""

    outcome: Literal["created", "exists"]
    differs: Sequence[str] = ()


def create_topics(settings: TopicSettings) -> dict[str, TopicOutcome]:
    """Creates the topics that are missing and compares the existing ones with what is wanted. Raises KafkaError."""
    return asyncio.run(_create_topics(settings))


async def _create_topics(settings: TopicSettings) -> dict[str, TopicOutcome]:
    options = settings.client_options()
    admin = AIOKafkaAdminClient(**options)
    await with_reason(options, admin.start)
    try:
        new = [
            NewTopic(name, partitions, settings.kafka_replication_factor, topic_configs=topic_configs(settings))
            for name, partitions in wanted_partitions(settings).items()
        ]
        outcomes = _outcomes(await admin.create_topics(new))
        await _wait_for_leaders(admin, outcomes)
        return {
            topic: TopicOutcome(outcome, await _differences(admin, topic, settings) if outcome == "exists" else ())
            for topic, outcome in outcomes.items()
        }
    finally:
        await admin.close()


def topic_configs(settings: TopicSettings) -> dict[str, str]:
    """Returns the configuration of a new topic. With several copies, two must have an event before it counts."""
    if settings.kafka_replication_factor == 1:
        return KEEP_FOR_EVER
    return {**KEEP_FOR_EVER, "min.insync.replicas": "2", "unclean.leader.election.enable": "false"}


def wanted_partitions(settings: TopicSettings) -> dict[str, int]:
    """How many partitions each topic gets. The audit topic has one: its order is that of the log."""
    many = settings.kafka_partitions
    return {settings.kafka_topic: many, settings.kafka_dlq_topic: many, settings.kafka_audit_topic: 1}


async def _differences(admin: AIOKafkaAdminClient, topic: str, settings: TopicSettings) -> Sequence[str]:
    wanted = Wanted(wanted_partitions(settings)[topic], settings.kafka_replication_factor)
    return broken_promises(await describe_with(admin, topic), wanted)


def _outcomes(response: Any) -> dict[str, Literal["created", "exists"]]:
    outcomes: dict[str, Literal["created", "exists"]] = {}
    for topic, code, *_ in response.topic_errors:
        error = for_code(code)
        if error is TopicAuthorizationFailedError:
            raise error(f"Kafka does not let this user CREATE on topic {topic}")
        if code and error is not TopicAlreadyExistsError:
            raise error(f"topic {topic} was not created")
        outcomes[topic] = "exists" if code else "created"
    return outcomes


async def _wait_for_leaders(admin: AIOKafkaAdminClient, topics: Collection[str]) -> None:
    """Returns once each partition has a leader.

    With KRaft the controller answers before the brokers know a new topic: until then they tell a client that it does
    not exist.
    """
    try:
        async with asyncio.timeout(TOPIC_TIMEOUT):
            while not all(_has_leaders(topic) for topic in await admin.describe_topics(list(topics))):  # noqa: ASYNC110 - a broker's state
                await asyncio.sleep(TOPIC_POLL)
    except TimeoutError:
        raise KafkaTimeoutError(
            f"the topics {', '.join(topics)} have no leader for every partition after {TOPIC_TIMEOUT:.0f} s: "
            "look at the brokers' logs"
        ) from None


def _has_leaders(topic: dict[str, Any]) -> bool:
    """Whether each partition has a leader. A topic that the broker does not know yet has no partitions."""
    partitions = topic["partitions"]
    return bool(partitions) and all(partition["leader"] >= 0 for partition in partitions)
