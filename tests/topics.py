"""What an administrator does to a topic: deletes it, makes it anew, adds partitions."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.errors import KafkaError

from operations.settings import TopicSettings
from operations.setup import create_topics
from tests.conftest import Footfall
from tests.processes import wait_until


@asynccontextmanager
async def _admin(kafka: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def _delete(kafka: str, topic: str) -> None:
    async with _admin(kafka) as admin:
        await admin.delete_topics([topic])


def make_anew(footfall: Footfall, partitions: int) -> None:
    """Deletes the topic with all it holds, and makes an empty one of the same name."""
    asyncio.run(_delete(footfall.servers.kafka, footfall.topic))

    def made() -> bool:
        try:
            return make_topics(footfall, partitions)[footfall.topic] == "created"
        except KafkaError:  # the deletion is under way
            return False

    wait_until(made, 30, "the topic to be made anew")


def make_topics(footfall: Footfall, partitions: int) -> dict[str, str]:
    """`footfall topics create`; says of each `created` or `exists`."""
    settings = TopicSettings(
        kafka_bootstrap_servers=footfall.servers.kafka,
        kafka_topic=footfall.topic,
        kafka_dlq_topic=f"{footfall.topic}-dlq",
        kafka_audit_topic=f"{footfall.topic}-audit",
        kafka_partitions=partitions,
    )
    return {topic: found.outcome for topic, found in create_topics(settings).items()}


async def _add_partitions(kafka: str, topic: str, total: int) -> None:
    async with _admin(kafka) as admin:
        await admin.create_partitions({topic: NewPartitions(total_count=total)})


async def _led_partitions(kafka: str, topic: str) -> int:
    async with _admin(kafka) as admin:
        (found,) = await admin.describe_topics([topic])
    return sum(partition["leader"] >= 0 for partition in found["partitions"])


def add_partitions(footfall: Footfall, total: int) -> None:
    """Lets the topic have so many partitions; returns when whoever asks the broker is told of all of them."""
    kafka, topic = footfall.servers.kafka, footfall.topic
    asyncio.run(_add_partitions(kafka, topic, total))
    # The controller has them before the broker tells anybody, and a producer that was not told refuses to send there.
    wait_until(lambda: asyncio.run(_led_partitions(kafka, topic)) == total, 30, "the added partitions")
