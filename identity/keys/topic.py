"""The compacted topic that carries the register, as operators' commands make it, read it and write to it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, TopicAuthorizationFailedError, for_code

from brokers.diagnosis import with_reason
from identity.keys.key_record import KeyRecord, encode_key
from identity.keys.reader import PARTITION, STOP_TIMEOUT, fold_next, is_at_end
from identity.keys.register import Register
from telemetry.connections import ended_within

COMPACTED = {"cleanup.policy": "compact", "retention.ms": "-1", "retention.bytes": "-1"}
READ_TIMEOUT = 30.0  # seconds for reading the whole topic
CREATE_TIMEOUT = 30.0  # seconds until a broker must show a topic that its controller has accepted
POLL = 0.05  # seconds


class WrongTopicError(Exception):
    """The topic would lose keys, or their order, or nobody may look: its text says what to do."""


class RegisterTopic:
    """The register, opened by an operator's command."""

    def __init__(self, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, topic: str) -> None:
        self._consumer = consumer
        self._producer = producer
        self._topic = TopicPartition(topic, PARTITION)
        self._register = Register()

    async def read(self) -> Register:
        """All that was written until now. Raises KafkaError or TimeoutError."""
        async with asyncio.timeout(READ_TIMEOUT):
            while not await is_at_end(self._consumer, self._topic):
                await fold_next(self._consumer, self._topic, self._register)
        return self._register

    async def write(self, record: KeyRecord) -> KeyRecord:
        """Writes a record once it is safe, and returns what holds then: a revocation in between wins."""
        await self._send(record)
        held = (await self.read()).records[record.key_id]
        if held.revoked_at is not None and record.revoked_at is None:  # only this reader still knows it
            await self._send(held)
        return held

    async def _send(self, record: KeyRecord) -> None:
        await self._producer.send_and_wait(
            self._topic.topic, encode_key(record), record.key_id.encode(), partition=PARTITION
        )


@asynccontextmanager
async def opened(client_options: Mapping[str, Any], topic: str) -> AsyncIterator[RegisterTopic]:
    """The register's topic, read and written. Raises KafkaError when there is none, or no broker answers."""
    consumer = AIOKafkaConsumer(
        **client_options, group_id=None, enable_auto_commit=False, isolation_level="read_committed"
    )
    producer = AIOKafkaProducer(**client_options, acks="all", enable_idempotence=True)
    try:
        await with_reason(client_options, consumer.start)
        await with_reason(client_options, producer.start)
        partition = TopicPartition(topic, PARTITION)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        yield RegisterTopic(consumer, producer, topic)
    finally:
        await ended_within(STOP_TIMEOUT, consumer.stop)
        await ended_within(STOP_TIMEOUT, producer.stop)


async def ensure_topic(client_options: Mapping[str, Any], topic: str, replication_factor: int) -> None:
    """Creates the topic if it is missing. Raises WrongTopicError if it is there and would lose keys; KafkaError."""
    admin = AIOKafkaAdminClient(**client_options)
    await with_reason(client_options, admin.start)
    try:
        configs = COMPACTED if replication_factor == 1 else {**COMPACTED, "min.insync.replicas": "2"}
        response = await admin.create_topics([NewTopic(topic, 1, replication_factor, topic_configs=configs)])
        for name, code, *_ in response.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise error(f"topic {name} was not created")
        await _check(admin, topic)
    finally:
        await admin.close()


async def _check(admin: AIOKafkaAdminClient, topic: str) -> None:
    async with asyncio.timeout(CREATE_TIMEOUT):
        while not (partitions := (await admin.describe_topics([topic]))[0]["partitions"]):  # noqa: ASYNC110 - a broker's state
            await asyncio.sleep(POLL)
    if len(partitions) != 1:
        raise WrongTopicError(f"The topic {topic} has {len(partitions)} partitions; the register of keys needs one.")
    [response] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic, None)])
    [(code, _reason, _kind, _name, entries)] = response.resources
    if code == TopicAuthorizationFailedError.errno:
        raise WrongTopicError(f"This user of Kafka may not read the settings of {topic}: grant it DESCRIBE_CONFIGS.")
    if code:
        raise for_code(code)(f"the settings of topic {topic} were not read")
    policy = {entry[0]: entry[1] for entry in entries}.get("cleanup.policy")
    if policy != "compact":
        raise WrongTopicError(f"The topic {topic} has cleanup.policy={policy} and would lose keys; set it to compact.")
