"""Sends notes for the audit log by Kafka, for processes and commands that have no database (docs/audit.md)."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError

from brokers.diagnosis import with_reason
from contracts.audit_records import AuditNote, encode_audit_record

SEND_TIMEOUT = 15.0  # seconds
CLOSE_TIMEOUT = 2.0  # seconds; aiokafka's stop() can hang while the broker is down
FOR_EVER = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}


async def send_notes(options: Mapping[str, Any], topic: str, *notes: AuditNote) -> None:
    """Sends notes, and returns once all in-sync replicas have them.

    Args:
        options: Of every Kafka client.
        topic: The audit topic.
        notes: Each is written into the log once, however often it is sent.

    Raises:
        KafkaError, OSError, TimeoutError: Not every note is there.
    """
    producer = AIOKafkaProducer(**options, acks="all", client_id="footfall-audit-notes")
    try:
        async with asyncio.timeout(SEND_TIMEOUT):
            await producer.start()
            for note in notes:
                await producer.send_and_wait(topic, encode_audit_record(note), partition=0)
    finally:
        await _stop(producer)


async def _stop(producer: AIOKafkaProducer) -> None:
    """Closes a producer, within its time limit; whether the notes are there is known by now.

    As a task of its own: aiokafka may raise the CancelledError of one of its tasks, which would pass for that of our
    caller.
    """
    ending = asyncio.ensure_future(producer.stop())
    await asyncio.wait([ending], timeout=CLOSE_TIMEOUT)
    if not ending.done():
        ending.cancel()
    elif not ending.cancelled():
        ending.exception()  # else asyncio reports that nobody looked at it


async def ensure_audit_topic(options: Mapping[str, Any], topic: str, replication_factor: int) -> None:
    """Makes the topic if it is missing, with its one partition. Raises KafkaError."""
    admin = AIOKafkaAdminClient(**options)
    await with_reason(options, admin.start)
    try:
        if topic not in await admin.list_topics():
            response = await admin.create_topics([NewTopic(topic, 1, replication_factor, topic_configs=FOR_EVER)])
            if [code for _, code, *_ in response.topic_errors if code not in (0, 36)]:  # 36: it is there by now
                raise UnknownTopicOrPartitionError(f"topic {topic} was not created. First: footfall topics create")
    finally:
        await admin.close()
