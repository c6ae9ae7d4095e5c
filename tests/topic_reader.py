"""Reading a topic back from its origin, as any consumer would find it."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer

from tests.patience import PATIENCE


async def read_topic(bootstrap: str, topic: str) -> list[Any]:
    """Every record that stands in the topic now, by partition and offset (aiokafka ConsumerRecords)."""
    found: list[Any] = []
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    async with asyncio.timeout(PATIENCE), consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += records
    return sorted(found, key=lambda record: (record.partition, record.offset))


def records_of(bootstrap: str, topic: str) -> list[Any]:
    """`read_topic`, for tests that are not coroutines."""
    return asyncio.run(read_topic(bootstrap, topic))
