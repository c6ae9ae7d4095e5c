"""One produce round: records of many publishers, one batch for each partition, an outcome for everyone."""

import asyncio
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from aiokafka.errors import InvalidTimestampError, MessageSizeTooLargeError, RecordListTooLargeError
from aiokafka.partitioner import murmur2

from command_side.publishing.event_log import (
    FAILED,
    SOMEWHERE,
    TOO_LARGE,
    UNKNOWN,
    Acknowledged,
    Away,
    Busy,
    Failed,
    KeysAway,
    NotAcknowledged,
    TooLarge,
    Unknown,
)
from command_side.publishing.kafka_producer import UNANSWERED, KafkaProducer, leaves_a_doubt
from command_side.publishing.pending import Pending
from contracts.record import PlacedRecord
from contracts.topic_promises import Accepts
from telemetry.logs import get_logger
from telemetry.metrics import MESSAGES_PUBLISHED, PUBLISH_FAILURES

CLOCK = "Kafka takes no time that is so far from its own: synchronise the clocks of this machine and the brokers (NTP)."
REFUSED_FOR = 30.0  # seconds for which readiness tells of it
SMALL = 1_000  # bytes; a topic that takes no event of this size is closed, though Kafka may not tell so yet
TOO_LARGE_A_BATCH = (MessageSizeTooLargeError, RecordListTooLargeError)  # for max.message.bytes, for a segment

COUNT_FAILURE: dict[type[NotAcknowledged], Callable[[float], None]] = {
    kind: PUBLISH_FAILURES.labels(outcome=outcome).inc
    for kind, outcome in (
        (Failed, "failed"),
        (TooLarge, "too_large"),
        (Unknown, "unknown"),
        (Busy, "refused"),
        (Away, "unavailable"),
        (KeysAway, "no_key"),
    )
}


class ProduceRound:
    """Runs rounds, one at a time, through a producer."""

    def __init__(self, producer: KafkaProducer, partitions: int) -> None:
        self._producer = producer
        self._partition_of = partition_chooser(partitions)
        self._times_refused_until = float("-inf")  # loop time

    def times_refused(self) -> bool:
        """Whether Kafka refused the times of records a moment ago: it would refuse the next ones, too."""
        return asyncio.get_running_loop().time() < self._times_refused_until

    async def run(self, pending: Sequence[Pending]) -> None:
        """Publishes the records; every publisher learns its outcome, so this never raises."""
        by_partition: dict[int, list[Pending]] = {}
        for one in pending:
            one.sent = True
            record = one.record
            partition = record.partition if type(record) is PlacedRecord else self._partition_of(record.key)
            by_partition.setdefault(partition, []).append(one)
        submitted = [
            (partition, group, await self._submit(partition, group)) for partition, group in by_partition.items()
        ]
        left: list[tuple[int, list[Pending], Exception | None]] = []
        for partition, group, batch in submitted:
            try:
                if isinstance(batch, Exception):
                    raise batch
                count = batch[1]
                self._acknowledge(partition, group[:count], (await batch[0]).offset)
            except Exception as error:  # noqa: BLE001 - sorted out by `_send`
                left.append((partition, group, error))
            else:
                if count < len(group):
                    left.append((partition, group[count:], None))
        if left:
            await asyncio.gather(*(self._send(*one) for one in left))

    async def _submit(self, partition: int, pending: list[Pending]) -> tuple[Any, int] | Exception:
        try:
            return await self._producer.submit(partition, pending)
        except Exception as error:  # noqa: BLE001 - sorted out by `_send`
            return error

    async def _send(self, partition: int, pending: list[Pending], error: Exception | None) -> None:
        """Publishes what is left of one partition's round, after `error` if there was one.

        Every publisher learns its outcome, so this never raises.
        """
        producer, remaining, cause = self._producer.current, pending, error
        try:
            if error is not None and isinstance(error, TOO_LARGE_A_BATCH):
                raise error
            while remaining:
                metadata, count = await self._producer.retry(partition, remaining, cause)
                self._acknowledge(partition, remaining[:count], metadata.offset)
                remaining, cause = remaining[count:], None
        except TOO_LARGE_A_BATCH as too_large:
            await self._producer.renew(producer)
            accepts = await self._producer.accepts()
            if accepts is Accepts.NOTHING:  # the log is being rewritten: a smaller event would fare the same
                self._settle_failed(remaining, FAILED, too_large)
            else:
                await self._send_halves(partition, remaining, too_large, accepts)
        except UNANSWERED as unanswered:
            self._settle_failed(remaining, UNKNOWN, unanswered)
        except Exception as refused:  # noqa: BLE001 - whatever it was, the publishers must not wait for ever
            self._settle_failed(remaining, UNKNOWN if leaves_a_doubt(refused) else FAILED, refused)
            await self._producer.renew(producer)

    async def _send_halves(self, partition: int, pending: list[Pending], error: Exception, accepts: Accepts) -> None:
        """The broker finds a batch too large: smaller ones may pass; only a record too large by itself must fail.

        It may be the log that takes nothing at all: that a repeat is in vain is said only if Kafka told otherwise.
        """
        left = [one for one in pending if not one.settled()]
        if len(left) <= 1:
            in_vain = accepts is Accepts.RECORDS and any(len(one.record.value) > SMALL for one in left)
            self._settle_failed(left, TOO_LARGE if in_vain else FAILED, error)
            return
        middle = len(left) // 2
        await self._send(partition, left[:middle], None)
        await self._send(partition, left[middle:], None)

    def _acknowledge(self, partition: int, pending: Sequence[Pending], first: int) -> None:
        """`first`: the offset of the first; negative when a retry found the batch written and Kafka forgot where."""
        for index, one in enumerate(pending):
            one.settle(Acknowledged(partition, first + index) if first >= 0 else SOMEWHERE)
        MESSAGES_PUBLISHED.inc(len(pending))

    def _settle_failed(self, pending: Sequence[Pending], outcome: NotAcknowledged, cause: Exception) -> None:
        remedy = ""
        if isinstance(cause, InvalidTimestampError):
            remedy, self._times_refused_until = CLOCK, asyncio.get_running_loop().time() + REFUSED_FOR
        get_logger("command_side").error(
            "publish_failed", error=type(cause).__name__, events=len(pending), remedy=remedy
        )
        fail(pending, outcome)


def fail(pending: Sequence[Pending], outcome: NotAcknowledged) -> None:
    """Tells those who still wait, and counts them."""
    for one in pending:
        if not one.settled():
            COUNT_FAILURE[type(outcome)](1)
            one.settle(outcome)


def partition_chooser(partitions: int) -> Any:
    """Kafka's default partitioner (murmur2 of the key, as every Java client does), remembered for recent keys."""

    @lru_cache(maxsize=65_536)
    def choose(key: bytes) -> int:
        return int((murmur2(key) & 0x7FFFFFFF) % partitions)

    return choose
