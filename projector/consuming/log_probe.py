"""A look at the log from outside: no group, a connection of its own, nothing that a stuck consumer could stop."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord

from telemetry.connections import ended_within

CLOSE_TIMEOUT = 2.0  # seconds; aiokafka's stop() can hang while the broker is down
LOOK_MS = 100  # of one fetch


class Marks(msgspec.Struct, frozen=True):
    """Where one partition's log stands.

    `readable`, the last stable offset, is before `end`, the high watermark, while a transaction is open.
    `open_since`: when the first record of the oldest open transaction was made, in ms; None: none is open, or unknown.
    """

    beginning: int
    readable: int
    end: int
    open_since: int | None = None


class LogProbe:
    """Connects at the first question and, after a failed one, anew at the next. Every question may raise KafkaError."""

    def __init__(self, client_options: Mapping[str, Any], client_id: str) -> None:
        self._options = {**client_options, "client_id": client_id}
        self._consumer: AIOKafkaConsumer | None = None
        self._uncommitted: AIOKafkaConsumer | None = None  # sees what open transactions have written

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after the last record of each partition; what an open transaction may still undo is beyond it."""
        wanted = list(partitions)
        consumer = await self._connected()
        return dict(await consumer.end_offsets(wanted)) if wanted else {}

    async def beginnings(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset of the oldest record that each partition keeps."""
        wanted = list(partitions)
        consumer = await self._connected()
        return dict(await consumer.beginning_offsets(wanted)) if wanted else {}

    async def marks(self, partitions: Iterable[TopicPartition], patience: float) -> dict[TopicPartition, Marks]:
        """Where each partition stands. The end is asked first, so that new records never look like a transaction."""
        wanted = list(partitions)
        beginnings = await self.beginnings(wanted)
        everything = await self._seeing_all()
        high = dict(await everything.end_offsets(wanted)) if wanted else {}
        stable = await self.ends(wanted)
        blocked = {tp: stable[tp] for tp in wanted if stable[tp] < high[tp]}
        opened: Mapping[TopicPartition, ConsumerRecord] = {}
        if blocked:
            with contextlib.suppress(TimeoutError, OffsetOutOfRangeError):
                opened = await _first_records(everything, blocked, high, patience)
        return {
            tp: Marks(
                beginnings[tp],
                stable[tp],
                max(high[tp], stable[tp]),
                opened[tp].timestamp if tp in opened else None,
            )
            for tp in wanted
        }

    async def partitions_of(self, topic: str) -> list[TopicPartition]:
        """The topic's partitions; none if there is no such topic."""
        consumer = await self._connected()
        if topic not in await consumer.topics():
            return []
        await consumer.beginning_offsets([TopicPartition(topic, 0)])  # a topic's partitions are known once it is used
        return [TopicPartition(topic, partition) for partition in sorted(consumer.partitions_for_topic(topic) or ())]

    async def first_records(
        self, positions: Mapping[TopicPartition, int], patience: float
    ) -> dict[TopicPartition, ConsumerRecord]:
        """The first record at or after each position; none for a partition that has only markers and holes there.

        Raises TimeoutError when that is not known after `patience` seconds, OffsetOutOfRangeError for history gone.
        """
        if not positions:
            return {}
        ends = await self.ends(positions)
        return await _first_records(await self._connected(), positions, ends, patience)

    async def close(self) -> None:
        """Ends the connection, whatever state it is in."""
        open_now = [consumer for consumer in (self._consumer, self._uncommitted) if consumer is not None]
        self._consumer = self._uncommitted = None
        for consumer in open_now:
            await ended_within(CLOSE_TIMEOUT, consumer.stop)

    async def _connected(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            self._consumer = consumer = self._new("read_committed")
            await consumer.start()
        return self._consumer

    async def _seeing_all(self) -> AIOKafkaConsumer:
        if self._uncommitted is None:
            self._uncommitted = consumer = self._new("read_uncommitted")
            await consumer.start()
        return self._uncommitted

    def _new(self, isolation: str) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **self._options,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level=isolation,
            max_partition_fetch_bytes=1,  # Kafka sends at least one batch all the same
        )


async def _first_records(
    consumer: AIOKafkaConsumer,
    positions: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    patience: float,
) -> dict[TopicPartition, ConsumerRecord]:
    """The first record from each position to each end, if there is one. Raises TimeoutError, OffsetOutOfRangeError."""
    found: dict[TopicPartition, ConsumerRecord] = {}
    consumer.assign(list(positions))
    try:
        for tp, offset in positions.items():
            consumer.seek(tp, offset)
        open_now = {tp for tp, offset in positions.items() if offset < ends[tp]}
        async with asyncio.timeout(patience):
            while open_now:
                for tp, records in (await consumer.getmany(*open_now, timeout_ms=LOOK_MS)).items():
                    found.setdefault(tp, records[0])
                passed = {tp for tp in open_now if await consumer.position(tp) >= ends[tp]}
                open_now -= found.keys() | passed
    finally:
        consumer.unsubscribe()
    return found
