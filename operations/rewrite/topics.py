"""What a rewrite does to topics: makes, closes, opens and deletes them."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaTimeoutError,
    LeaderNotAvailableError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)

from brokers.diagnosis import with_reason
from contracts.blank import BLANK, BLANK_HEADERS
from operations.refusal import RefusedError
from operations.rewrite.rights import check_rights
from projector.consuming.topic_metadata import topic_metadata
from telemetry.connections import ended_within

Configs = Mapping[str, str]

LARGEST_COPY = str(64 * 1024 * 1024)  # bytes of a batch: a copy that is compressed in another way may be larger
# The copies keep their times, and nothing may go while it is copied.
WHILE_COPYING = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": str(2**63 - 1),
    "max.message.bytes": LARGEST_COPY,
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "cleanup.policy": "delete",
}
CLOSED = {"max.message.bytes": "0"}  # no batch is so small
FILES_GO_SOON = {"file.delete.delay.ms": "1000"}
OF_THE_TOPIC = 1  # Kafka's number of the source of a configuration: it was set for this topic
TIMEOUT = 30.0  # seconds for brokers to do what the controller has accepted
POLL = 0.1  # seconds
METADATA_MAX_AGE_MS = 5_000
CLOSE_TIMEOUT = 2.0  # seconds; aiokafka's stop() can hang while the broker is down


class Topics:
    """Kafka's topics, over one connection of each kind of client."""

    def __init__(self, admin: AIOKafkaAdminClient, client: AIOKafkaClient, options: Mapping[str, Any]) -> None:
        self._admin, self._client, self._options = admin, client, options

    async def check_rights(self, step: str, old: Iterable[str], new: Iterable[str] = ()) -> None:
        """See `check_rights`."""
        await check_rights(self._client, step, old, new)

    async def has(self, topic: str) -> bool:
        """Whether there is such a topic. Raises TopicAuthorizationFailedError if Kafka does not tell this user.

        A list of all topics would leave out those that this user may not see.
        """
        try:
            await topic_metadata(self._client, topic)
        except UnknownTopicOrPartitionError:
            return False
        except LeaderNotAvailableError:
            return True
        return True

    async def topic_id(self, topic: str) -> UUID:
        """Returns Kafka's id of a topic. Raises RefusedError if there is none."""
        found = await topic_metadata(self._client, topic)
        if found.topic_id is None:
            raise RefusedError(f"Kafka gives no id for topic {topic}: a rewrite needs Kafka 2.8 or newer.")
        return found.topic_id

    async def partitions(self, topic: str) -> dict[int, int]:
        """Returns how many replicas each partition has; empty if there is no such topic yet."""
        (found,) = await self._admin.describe_topics([topic])
        if for_code(found["error_code"]) is TopicAuthorizationFailedError:
            _raise_for(found["error_code"], topic)
        if any(each["leader"] < 0 for each in found["partitions"]):
            return {}
        return {each["partition"]: len(each["replicas"]) for each in found["partitions"]}

    async def configs(self, topic: str) -> dict[str, str]:
        """Returns what is configured for this topic, and not by a default."""
        asked = ConfigResource(ConfigResourceType.TOPIC, topic)
        (answer,) = await self._admin.describe_configs([asked])
        (found,) = answer.to_object()["resources"]
        _raise_for(found["error_code"], topic)
        entries = found["config_entries"]
        return {each["config_names"]: each["config_value"] for each in entries if _is_set(each)}

    async def create(self, topic: str, partitions: Mapping[int, int], configs: Configs) -> None:
        """Makes a topic for copies, unless it is there."""
        wanted = {**configs, **WHILE_COPYING}
        new = NewTopic(topic, len(partitions), min(partitions.values()), topic_configs=wanted)
        answer = await self._admin.create_topics([new])
        for _, code, *_ in answer.topic_errors:
            _raise_for(0 if code == ALREADY_THERE else code, topic)
            if code == ALREADY_THERE and CLOSED.items() <= (await self.configs(topic)).items():
                await self.configure(topic, wanted)  # it was to be deleted, and Kafka refused
        async with _within(f"topic {topic} to have leaders"):
            while len(await self.partitions(topic)) < len(partitions):  # noqa: ASYNC110 - a broker's state
                await asyncio.sleep(POLL)

    async def configure(self, topic: str, configs: Configs) -> None:
        """Replaces what is configured for a topic."""
        (answer,) = await self._admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, dict(configs))])
        for code, *_ in answer.resources:
            _raise_for(code, topic)

    async def close(self, topic: str, configs: Configs) -> None:
        """Makes every partition refuse every record, and returns once each one has refused one.

        A partition that does not know it yet takes a blank instead, which is copied like any other record.
        """
        await self.configure(topic, {**configs, **CLOSED})
        producer = AIOKafkaProducer(**self._options, client_id="footfall-rewrite-probe", acks="all")
        await with_reason(self._options, producer.start)
        try:
            async with _within(f"topic {topic} to refuse records"):
                for partition in await self.partitions(topic):
                    while await _takes(producer, topic, partition):  # noqa: ASYNC110 - a broker's state
                        await asyncio.sleep(POLL)
        finally:
            await ended_within(CLOSE_TIMEOUT, producer.stop)

    async def delete(self, topic: str) -> None:
        """Deletes a topic, unless it is gone, and its files soon after."""
        if await self.has(topic):
            await self.configure(topic, {**CLOSED, **FILES_GO_SOON})
        answer = await self._admin.delete_topics([topic])
        for _, code in answer.topic_error_codes:
            if code == DELETION_DISABLED:
                raise RefusedError(NO_DELETION.format(topic=topic))
            if for_code(code) is not UnknownTopicOrPartitionError:
                _raise_for(code, topic)
        async with _within(f"topic {topic} to go"):
            while await self.has(topic):  # noqa: ASYNC110 - a broker's state
                await asyncio.sleep(POLL)


ALREADY_THERE = 36  # Kafka's code of TopicAlreadyExistsError
DELETION_DISABLED = 73  # Kafka's code of TOPIC_DELETION_DISABLED, which aiokafka 0.14 does not know
NO_DELETION = (
    "Kafka does not delete topic {topic}: its brokers have delete.topic.enable=false. Its records are all there, and "
    "it takes no more of them. Allow deletion, or delete it in the way of your Kafka; then repeat the step."
)


@asynccontextmanager
async def topics(options: Mapping[str, Any]) -> AsyncIterator[Topics]:
    """Yields access to the topics. Raises KafkaError if there is no broker."""
    admin = AIOKafkaAdminClient(**options, client_id="footfall-rewrite")
    client = AIOKafkaClient(**options, client_id="footfall-rewrite", metadata_max_age_ms=METADATA_MAX_AGE_MS)
    try:
        await with_reason(options, admin.start)
        await with_reason(options, client.bootstrap)
        yield Topics(admin, client, options)
    finally:
        await client.close()
        await admin.close()


async def _takes(producer: AIOKafkaProducer, topic: str, partition: int) -> bool:
    try:
        await producer.send_and_wait(topic, BLANK, partition=partition, headers=BLANK_HEADERS)
    except MessageSizeTooLargeError:
        return False
    return True


def _is_set(entry: Mapping[str, Any]) -> bool:
    # Version 0 of the answer has no source, but says what is a default.
    source = entry.get("config_source")
    return source == OF_THE_TOPIC if source is not None else not entry.get("is_default")


def _raise_for(code: int, topic: str) -> None:
    if code:
        raise for_code(code)(f"topic {topic}")


@asynccontextmanager
async def _within(what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(TIMEOUT):
            yield
    except TimeoutError:
        raise KafkaTimeoutError(f"waited {TIMEOUT:.0f} s in vain for {what}") from None
