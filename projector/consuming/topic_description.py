"""Reads a topic's configuration, partitions and replicas from Kafka, for `contracts.topic_promises` to judge."""

from collections.abc import Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code

from brokers.diagnosis import with_reason
from contracts.topic_promises import DESCRIBED, Topic, topic_told


async def describe_topic(client_options: Mapping[str, Any], name: str) -> Topic:
    """Connects to Kafka and describes the topic. Raises KafkaError when no broker answers.

    If Kafka refuses to describe the configuration, the topic's `unknown` says why.
    """
    admin = AIOKafkaAdminClient(**client_options)
    await with_reason(client_options, admin.start)
    try:
        return await describe_with(admin, name)
    finally:
        await admin.close()


async def describe_with(admin: AIOKafkaAdminClient, name: str) -> Topic:
    """Describes the topic like `describe_topic`, over an open connection."""
    partitions, replication = await _shape(admin, name)
    try:
        wanted = ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(DESCRIBED))
        (response,) = await admin.describe_configs([wanted])
    except (KafkaError, NotImplementedError) as error:  # NotImplementedError: an old broker has no such request
        return Topic(name, {}, partitions, replication, type(error).__name__)
    (found,) = response.to_object()["resources"]
    if found["error_code"]:
        return Topic(name, {}, partitions, replication, for_code(found["error_code"]).__name__)
    configs = {each["config_names"]: each["config_value"] for each in found["config_entries"]}
    return topic_told(name, configs, partitions, replication)


async def _shape(admin: AIOKafkaAdminClient, name: str) -> tuple[int | None, int | None]:
    for topic in await admin.describe_topics([name]):
        partitions = topic["partitions"]
        if partitions:
            return len(partitions), min(len(each["replicas"]) for each in partitions)
    return None, None
