"""One idempotent producer, replaced when Kafka will have no more of it; sends records as batches."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import stamina
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidMessageError,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidRequiredAcksError,
    InvalidTimestampError,
    InvalidTopicError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NodeNotReadyError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    OutOfOrderSequenceNumber,
    PolicyViolationError,
    ProducerFenced,
    RecordListTooLargeError,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
    UnknownProducerId,
    UnknownTopicOrPartitionError,
    UnsupportedForMessageFormatError,
)

from command_side.publishing.pending import Pending
from command_side.publishing.topic_description import promises
from contracts.topic_promises import Accepts
from telemetry.connections import ended_within
from telemetry.logs import get_logger

CLOSE_TIMEOUT = 5.0  # seconds; aiokafka's stop() hangs while the broker is down
CONFIG_TIMEOUT = 2.0  # seconds
RETRY_WAIT = 0.1  # seconds before the first retry; doubles with each

# No broker answers, as long as it has not started.
BROKERS_AWAY = (OSError, KafkaConnectionError, KafkaTimeoutError, NodeNotReadyError, RequestTimedOutError)
# Kafka has lost track of the producer: it takes nothing more from it, and what it last sent may be in the log or not.
WEDGED = (OutOfOrderSequenceNumber, ProducerFenced, InvalidProducerEpoch, InvalidProducerIdMapping, UnknownProducerId)

# No answer, or one that came after the record had been appended.
UNANSWERED: tuple[type[Exception], ...] = (
    KafkaTimeoutError,
    RequestTimedOutError,
    NotEnoughReplicasAfterAppendError,
    *WEDGED,
)

# A broker's word that it appended nothing. Whatever is not in this list may be in the log all the same.
REFUSED: tuple[type[Exception], ...] = (
    ClusterAuthorizationFailedError,
    InvalidMessageError,
    InvalidRequiredAcksError,
    InvalidTimestampError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    NotEnoughReplicasError,
    PolicyViolationError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnsupportedForMessageFormatError,
)


# Kafka's answer to a producer that may write to no topic at all, so it may not be idempotent either (KIP-679).
NOT_ALLOWED = (ClusterAuthorizationFailedError, TopicAuthorizationFailedError)
NEEDS_WRITE = (
    "Kafka does not allow the principal of KAFKA_SASL_USERNAME to produce. It needs Write on topic {topic}: "
    "kafka-acls.sh --add --allow-principal User:.. --operation Write --topic {topic}"
)


class KafkaProducer:
    """The producer of one topic. Start it with `start`, end it with `stop`."""

    def __init__(
        self, make_producer: Callable[[], AIOKafkaProducer], topic: str, *, timeout: float, retries: int
    ) -> None:
        self._make_producer = make_producer  # called inside the event loop that the producer belongs to
        self._topic = topic
        self._timeout = timeout  # seconds
        self._retries = retries
        self._renewing = asyncio.Lock()
        self.heard_at = 0.0  # loop time of Kafka's last answer to what is not the usual course of a round
        self._log = get_logger("command_side")

    async def start(self) -> int:
        """Connects; returns the number of partitions. Raises KafkaError without a broker or without the topic."""
        self.current = self._make_producer()
        try:
            await self.current.start()
        except BaseException as error:
            await ended_within(CLOSE_TIMEOUT, self.current.stop)
            if isinstance(error, NOT_ALLOWED):
                raise type(error)(NEEDS_WRITE.format(topic=self._topic)) from None
            raise
        if self._topic not in (await self.current.client.fetch_all_metadata()).topics():
            await self.current.stop()
            raise UnknownTopicOrPartitionError(
                f"there is no topic {self._topic}, or this principal may not see it (Describe or Write): run `footfall "
                "topics create`, or allow it"
            )
        return len(await self.current.partitions_for(self._topic))

    async def stop(self) -> None:
        """Sends what it still holds and disconnects; hangs while no broker answers."""
        await self.current.stop()

    async def ask(self) -> None:
        """Returns when a broker answers."""
        await self.current.client.fetch_all_metadata()

    async def accepts(self) -> Accepts:
        """Whether the topic takes any record at all now, as far as Kafka tells."""
        try:
            async with asyncio.timeout(CONFIG_TIMEOUT):
                return (await promises(self.current.client, self._topic)).accepts
        except (KafkaError, OSError):  # and TimeoutError, which is one
            return Accepts.NOT_TOLD

    async def partition_count(self) -> int:
        """How many partitions the topic has now."""
        return len(await self.current.partitions_for(self._topic))

    async def renew(self, spoiled: AIOKafkaProducer) -> None:
        """Replaces an idempotent producer of which Kafka refused a batch for good, or that hangs.

        The refused batch counts in the producer's sequence for its partition, so Kafka would refuse every later batch
        as out of order, for ever (aiokafka issue 1017). A new producer has a new id, and its sequences begin anew.
        """
        try:
            async with self._renewing, asyncio.timeout(self._timeout):
                if self.current is not spoiled:  # another partition's refusal has done it
                    return
                fresh = self._make_producer()
                await fresh.start()
                self.current = fresh
                self._hear()
                self._log.warning("producer_renewed")
            await stop_hard(spoiled)
        except (KafkaError, TimeoutError) as error:  # the next refusal tries again
            self._log.warning("producer_not_renewed", error=type(error).__name__)

    async def submit(self, partition: int, pending: Sequence[Pending]) -> tuple[Awaitable[Any], int]:
        """Hands over as many of the records as fit into one batch; returns its coming metadata and their number."""
        producer = self.current
        batch = producer.create_batch()
        now = int(time.time() * 1000)
        append = batch.append
        count = 0
        for one in pending:
            record = one.record
            if append(timestamp=now, key=record.key, value=record.value, headers=record.headers) is None:
                break
            count += 1
        return await producer.send_batch(batch, self._topic, partition=partition), count

    async def retry(self, partition: int, pending: Sequence[Pending], error: Exception | None) -> tuple[Any, int]:
        """Sends one batch again, after `error`, or for the first time, with retries; returns metadata and number.

        A retry is a new batch with the same event ids: were both to land, the projector would keep the first. So when
        a try is refused after another left a doubt, the doubt is raised: the first may have landed.
        """
        errors = [] if error is None else [error]
        try:
            return await self._tried(partition, pending, errors)
        except Exception as last:
            raise next(filter(leaves_a_doubt, errors), last) from last

    async def _tried(self, partition: int, pending: Sequence[Pending], errors: list[Exception]) -> tuple[Any, int]:
        if not errors:
            try:
                return await self._send(partition, pending)
            except KafkaError as first:
                errors.append(first)
        if isinstance(errors[0], WEDGED):
            await self.renew(self.current)
            return await self._send(partition, pending)
        if self._retries == 0 or not is_worth_a_retry(errors[0]):
            raise errors[0]
        async for attempt in stamina.retry_context(
            on=is_worth_a_retry, attempts=self._retries, timeout=self._timeout, wait_initial=RETRY_WAIT
        ):
            with attempt:
                try:
                    return await self._send(partition, pending)
                except KafkaError as another:
                    errors.append(another)
                    raise
        raise AssertionError("stamina either returns or raises")

    async def _send(self, partition: int, pending: Sequence[Pending]) -> tuple[Any, int]:
        sent, count = await self.submit(partition, pending)
        metadata = await sent
        self._hear()
        return metadata, count

    def _hear(self) -> None:
        self.heard_at = asyncio.get_running_loop().time()


async def stop_hard(spoiled: AIOKafkaProducer) -> None:
    """Disconnects within `CLOSE_TIMEOUT`, whatever it still holds: that is on its way through another producer."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await spoiled.stop()
    except TimeoutError:
        await spoiled.client.close()


def is_worth_a_retry(error: Exception) -> bool:
    """Kafka's own word on whether the same request may succeed a little later."""
    return isinstance(error, KafkaError) and bool(getattr(error, "retriable", False))


def leaves_a_doubt(error: Exception) -> bool:
    """Whether records may be in the log although sending them ended with this error."""
    return not isinstance(error, REFUSED)
