"""Reads the log's offsets independently of the consumer group, over connections that a stuck consumer cannot block."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord

from brokers.diagnosis import with_reason
from telemetry.connections import ended_within

CLOSE_TIMEOUT = 2.0  # seconds; aiokafka's stop() can hang while the broker is down
FETCH_MS = 100  # of one fetch
FETCH_BYTES = 65_536  # of a partition; with less, an answer has one partition only, and the others wait
REQUEST_TIMEOUT_MS = 2_500  # a broker that is silent for longer is asked no more; others may lead by then
COMMAND_TIMEOUT_MS = 20_000  # the same of a command, which does not ask again: a slow answer is better than none


class LogOffsets(msgspec.Struct, frozen=True):
    """The offsets of one partition's log.

    `readable` is the last stable offset and `end` the high watermark; while a transaction is open, `readable` is less
    than `end`. `open_since`: the timestamp of the first record of the oldest open transaction, in ms since 1970; None
    if no transaction is open or the timestamp is unknown.
    """

    beginning: int
    readable: int
    end: int
    open_since: int | None = None


class LogProbe:
    """Answers questions about the log. Every question can raise KafkaError.

    It connects at the first question. After an error, the caller closes it, and the next question connects again.
    """

    def __init__(
        self, client_options: Mapping[str, Any], client_id: str, request_timeout_ms: int = REQUEST_TIMEOUT_MS
    ) -> None:
        self._request_timeout_ms = request_timeout_ms
        self._options = {**client_options, "client_id": client_id}
        self._consumer: AIOKafkaConsumer | None = None
        self._uncommitted: AIOKafkaConsumer | None = None  # also sees the records of open transactions

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Returns the last stable offset of each partition; an open transaction can still undo what follows it."""
        wanted = list(partitions)
        consumer = await self._committed_consumer()
        return dict(await consumer.end_offsets(wanted)) if wanted else {}

    async def beginnings(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Returns the offset of the oldest record in each partition."""
        wanted = list(partitions)
        consumer = await self._committed_consumer()
        return dict(await consumer.beginning_offsets(wanted)) if wanted else {}

    async def log_offsets(
        self, partitions: Iterable[TopicPartition], patience: float
    ) -> dict[TopicPartition, LogOffsets]:
        """Returns the offsets of each partition.

        Args:
            partitions: the partitions to ask for.
            patience: seconds for finding the first records of open transactions; after that, `open_since` is None.
        """
        wanted = list(partitions)
        beginnings = await self.beginnings(wanted)
        uncommitted = await self._uncommitted_consumer()
        # The high watermark comes first: records that arrive in between must not look like an open transaction.
        high = dict(await uncommitted.end_offsets(wanted)) if wanted else {}
        stable = await self.ends(wanted)
        blocked = {tp: stable[tp] for tp in wanted if stable[tp] < high[tp]}
        opened: Mapping[TopicPartition, ConsumerRecord] = {}
        if blocked:
            with contextlib.suppress(TimeoutError, OffsetOutOfRangeError):
                opened = await _first_records(uncommitted, blocked, high, patience)
        return {
            tp: LogOffsets(
                beginnings[tp],
                stable[tp],
                max(high[tp], stable[tp]),
                opened[tp].timestamp if tp in opened else None,
            )
            for tp in wanted
        }

    async def partitions_of(self, topic: str) -> list[TopicPartition]:
        """Returns the topic's partitions; an empty list if there is no such topic."""
        consumer = await self._committed_consumer()
        if topic not in await consumer.topics():
            return []
        return await loaded_partitions(consumer, topic)

    async def first_records(
        self, positions: Mapping[TopicPartition, int], patience: float
    ) -> dict[TopicPartition, ConsumerRecord]:
        """Returns the first record at or after each position.

        Args:
            positions: the offset to start from, for each partition.
            patience: seconds for all partitions together.

        Returns:
            The records; a partition that has only transaction markers and gaps from its position on has none.

        Raises:
            TimeoutError: some partition's answer is not known after `patience` seconds.
            OffsetOutOfRangeError: the log no longer holds a position.
        """
        if not positions:
            return {}
        ends = await self.ends(positions)
        return await _first_records(await self._committed_consumer(), positions, ends, patience)

    async def close(self) -> None:
        """Closes the connections, whatever state they are in."""
        open_now = [consumer for consumer in (self._consumer, self._uncommitted) if consumer is not None]
        self._consumer = self._uncommitted = None
        for consumer in open_now:
            if not await ended_within(CLOSE_TIMEOUT, consumer.stop):  # its fetcher has died: stop() raises that first
                await ended_within(CLOSE_TIMEOUT, consumer._client.close)  # noqa: SLF001 - else sockets stay open

    async def _committed_consumer(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            self._consumer = consumer = self._new_consumer("read_committed")
            await with_reason(self._options, consumer.start)
        return self._consumer

    async def _uncommitted_consumer(self) -> AIOKafkaConsumer:
        if self._uncommitted is None:
            self._uncommitted = consumer = self._new_consumer("read_uncommitted")
            await with_reason(self._options, consumer.start)
        return self._uncommitted

    def _new_consumer(self, isolation: str) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **self._options,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level=isolation,
            request_timeout_ms=self._request_timeout_ms,
            max_partition_fetch_bytes=FETCH_BYTES,
        )


async def _first_records(
    consumer: AIOKafkaConsumer,
    positions: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    patience: float,
) -> dict[TopicPartition, ConsumerRecord]:
    """Returns the first record between each position and end, if any. Raises TimeoutError, OffsetOutOfRangeError."""
    found: dict[TopicPartition, ConsumerRecord] = {}
    open_now = {tp for tp, offset in positions.items() if offset < ends[tp]}
    if not open_now:  # an assignment that is taken back before the fetcher has seen it kills aiokafka's fetcher
        return found
    consumer.assign(list(positions))
    try:
        for tp, offset in positions.items():
            consumer.seek(tp, offset)
        async with asyncio.timeout(patience):
            while open_now:
                for tp, records in (await consumer.getmany(*open_now, timeout_ms=FETCH_MS)).items():
                    found.setdefault(tp, records[0])
                    consumer.pause(tp)  # else aiokafka reads on there, and fetches nothing of its broker meanwhile
                passed = {tp for tp in open_now if await consumer.position(tp) >= ends[tp]}
                open_now -= found.keys() | passed
    finally:
        consumer.unsubscribe()
    return found


async def loaded_partitions(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """Returns the partitions of a topic that exists, in order. The client loads a topic's partitions on use."""
    await consumer.beginning_offsets([TopicPartition(topic, 0)])
    return [TopicPartition(topic, partition) for partition in sorted(consumer.partitions_for_topic(topic) or ())]
