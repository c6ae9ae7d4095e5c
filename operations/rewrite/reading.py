"""Reads a partition from one offset to another, in order, and says how far every partition reaches."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError, OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord

from brokers.diagnosis import with_reason
from projector.consuming.log_probe import loaded_partitions
from telemetry.connections import ended_within

FETCH_MS = 200  # milliseconds that one fetch waits for records
STALL = 60.0  # seconds without progress, after which Kafka counts as unavailable
CLOSE_TIMEOUT = 2.0  # seconds; aiokafka's stop() can hang while the broker is down


class Reach(msgspec.Struct, frozen=True):
    """How far a topic reaches, by partition. `stable`: up to the oldest open transaction."""

    stable: Mapping[int, int]
    end: Mapping[int, int]


class Reader:
    """Reads topics, without a group."""

    def __init__(self, options: Mapping[str, Any], client_id: str = "footfall-rewrite") -> None:
        self._options, self._client_id = options, client_id

    async def records(
        self, topic: str, partition: int, begin: int, end: int, *, all_of_them: bool = False
    ) -> AsyncGenerator[ConsumerRecord, None]:
        """Yields the records between two offsets; those of aborted transactions are none.

        `all_of_them`: raises OffsetOutOfRangeError if the topic no longer holds `begin`, instead of beginning later.
        """
        if begin >= end:
            return
        at = TopicPartition(topic, partition)
        async with self._consumer("read_committed") as consumer:
            consumer.assign([at])
            first = (await consumer.beginning_offsets([at]))[at]
            if all_of_them and first > begin:
                raise OffsetOutOfRangeError({at: begin})
            consumer.seek(at, max(begin, first))
            moved_at, position = time.monotonic(), begin
            while position < end:
                for record in (await consumer.getmany(at, timeout_ms=FETCH_MS)).get(at, ()):
                    if record.offset < end:
                        yield record
                reached = await consumer.position(at)  # it also passes offsets that have no record
                if reached > position:
                    moved_at, position = time.monotonic(), reached
                elif time.monotonic() - moved_at > STALL:
                    raise KafkaTimeoutError(f"Kafka sent no record of {topic} for {STALL:g} s")

    async def reach(self, topic: str) -> Reach:
        """Returns how far a topic reaches now."""
        stable, end = [await self._ends(topic, isolation) for isolation in ("read_committed", "read_uncommitted")]
        return Reach(stable, end)

    async def _ends(self, topic: str, isolation: str) -> dict[int, int]:
        async with self._consumer(isolation) as consumer:
            await consumer.topics()
            known = await loaded_partitions(consumer, topic)
            return {tp.partition: end for tp, end in (await consumer.end_offsets(known)).items()}

    @asynccontextmanager
    async def _consumer(self, isolation: str) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            **self._options,
            client_id=self._client_id,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level=isolation,
        )
        try:
            await with_reason(self._options, consumer.start)
            yield consumer
        finally:
            await ended_within(CLOSE_TIMEOUT, consumer.stop)
