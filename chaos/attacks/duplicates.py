"""Sends records that are already in the log once more, as a producer without idempotence may do."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

WITHIN = 20.0  # seconds for the whole of it
WINDOW = 60  # records that are sent again


async def send_duplicates(kafka: str, topic: str, partition: int, *, first: bool) -> int:
    """Sends the first or the last records of a partition twice more, and returns how many records were sent."""
    async with asyncio.timeout(WITHIN):
        records = await _some(kafka, TopicPartition(topic, partition), first=first)
        producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=20)
        await producer.start()
        try:
            sent = [
                await producer.send(topic, r.value, key=r.key, headers=list(r.headers), partition=partition)
                for r in records
                for _ in range(2)
            ]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()
    return len(sent)


async def _some(kafka: str, tp: TopicPartition, *, first: bool) -> list:  # type: ignore[type-arg]  # aiokafka is untyped
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        begin = 0 if first else max(0, end - WINDOW)
        end = min(end, begin + WINDOW)
        consumer.seek(tp, begin)
        found: list = []  # type: ignore[type-arg]
        while await consumer.position(tp) < end:
            for records in (await consumer.getmany(tp, timeout_ms=200)).values():
                found += records
        return found[:WINDOW]
    finally:
        await consumer.stop()
