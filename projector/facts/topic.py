"""Tells in metrics whether the topic has a leader and all its copies for every partition."""

from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from brokers.diagnosis import with_reason
from telemetry.server_facts import (
    OF_TOPIC,
    TOPIC_COPIES,
    TOPIC_IN_SYNC,
    TOPIC_LEADERLESS,
    TOPIC_PARTITIONS,
    TOPIC_UNDER_REPLICATED,
    forget,
    tell,
)


async def show_topic(client_options: Mapping[str, Any], topic: str) -> None:
    """Asks Kafka, and shows the answer. Raises KafkaError when no broker answers."""
    admin = AIOKafkaAdminClient(**client_options)
    await with_reason(client_options, admin.start)
    try:
        (described,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    show_copies(topic, described["partitions"])


def show_copies(topic: str, partitions: Sequence[Any]) -> None:
    """Shows what Kafka said of the partitions; nothing if it shows none."""
    if not partitions:
        forget(OF_TOPIC)
        return
    tell(TOPIC_PARTITIONS, {(topic,): len(partitions)})
    tell(TOPIC_LEADERLESS, {(topic,): sum(each["leader"] < 0 for each in partitions)})
    tell(TOPIC_UNDER_REPLICATED, {(topic,): sum(len(each["isr"]) < len(each["replicas"]) for each in partitions)})
    tell(TOPIC_COPIES, {(topic,): min(len(each["replicas"]) for each in partitions)})
    tell(TOPIC_IN_SYNC, {(topic,): min(len(each["isr"]) for each in partitions)})
