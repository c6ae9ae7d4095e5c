"""Reads the anchors that the audit topic holds."""

import asyncio

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaTimeoutError, UnknownTopicOrPartitionError

from brokers.diagnosis import with_reason
from contracts.audit_records import AuditAnchor, decode_audit_record
from operations.settings import AuditSettings
from projector.consuming.log_probe import loaded_partitions
from telemetry.connections import ended_within

CLOSE_TIMEOUT = 2.0  # seconds
SILENCE = 30.0  # seconds without a record after which Kafka counts as away


class Anchors(msgspec.Struct, frozen=True):
    """The anchors in the order of the topic, how many of its records are of no known kind, and how many are gone."""

    anchors: list[AuditAnchor]
    unreadable: int
    deleted: int


async def read_anchors(settings: AuditSettings) -> Anchors:
    """Reads the whole topic, as it is now. Raises KafkaError."""
    topic, options = settings.kafka_audit_topic, settings.client_options()
    consumer = AIOKafkaConsumer(
        **options,
        client_id="footfall-audit",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        await with_reason(options, consumer.start)
        if topic not in await consumer.topics():
            raise UnknownTopicOrPartitionError(f"there is no topic {topic}. First: footfall topics create")
        return await _read(consumer, topic)
    finally:
        await ended_within(CLOSE_TIMEOUT, consumer.stop)


async def _read(consumer: AIOKafkaConsumer, topic: str) -> Anchors:
    partitions = await loaded_partitions(consumer, topic)
    begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    anchors: list[AuditAnchor] = []
    unreadable = 0
    silent_since = asyncio.get_running_loop().time()
    while any([await consumer.position(each) < ends[each] for each in partitions]):
        found = await consumer.getmany(*partitions, timeout_ms=500)
        now = asyncio.get_running_loop().time()
        silent_since = now if found else silent_since
        if now - silent_since > SILENCE:
            raise KafkaTimeoutError(f"the topic {topic} cannot be read to its end")
        for record in (record for records in found.values() for record in records):
            decoded = decode_audit_record(record.value)
            anchors += [decoded] if isinstance(decoded, AuditAnchor) else []
            unreadable += decoded is None
    return Anchors(anchors, unreadable, sum(begins.values()))
