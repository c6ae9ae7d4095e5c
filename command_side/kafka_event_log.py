"""The log in Kafka, by group commit.

aiokafka keeps one produce request in flight for each broker, and a future for each record is what makes a producer
slow. So everything that arrives while one produce round is in flight goes out in the next round, in one batch for each
partition. No linger is needed: an idle log sends at once, a busy one fills its batches by itself.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import stamina
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotEnoughReplicasAfterAppendError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
)
from aiokafka.partitioner import murmur2

from command_side.event_log import LogBusyError, Position, PublishFailedError, PublishUnknownError
from contracts.record import EventRecord
from telemetry.logs import get_logger
from telemetry.metrics import MESSAGES_PUBLISHED, PUBLISH_FAILURES, PUBLISH_SECONDS

CLOSE_TIMEOUT = 5.0  # seconds; aiokafka's stop() hangs while the broker is down
RETRY_WAIT = 0.1  # seconds before the first retry; doubles with each
BUSY_ROUND = 8  # records; after a round of more, the next waits `BUSY_PAUSE` to become as large
BUSY_PAUSE = 0.001  # seconds
DEADLINE_INTERVAL = 0.05  # seconds between looks at the publishers' deadlines
MAX_ROUND_RECORDS = 5_000  # keeps one round's answer within reach of its deadline

# After these the record may be in the log all the same.
OUTCOME_UNKNOWN = (KafkaTimeoutError, RequestTimedOutError, NotEnoughReplicasAfterAppendError)

_published = MESSAGES_PUBLISHED
_failed, _unknown, _refused = (PUBLISH_FAILURES.labels(outcome=o) for o in ("failed", "unknown", "refused"))


class _Waiting:
    """One record on its way, the future of its publisher, and until when the publisher waits (loop time)."""

    __slots__ = ("deadline", "future", "record", "sent")

    def __init__(self, record: EventRecord, future: asyncio.Future[Position | None], deadline: float) -> None:
        self.record = record
        self.future = future
        self.deadline = deadline
        self.sent = False


class KafkaEventLog:
    """Publishes records through one idempotent producer. Start it with `start`, end it with `close`."""

    def __init__(
        self,
        make_producer: Callable[[], AIOKafkaProducer],
        topic: str,
        *,
        timeout: float,
        retries: int,
        max_pending: int,
    ) -> None:
        self._make_producer = make_producer  # called inside the event loop that the producer belongs to
        self._topic = topic
        self._timeout = timeout  # seconds
        self._retries = retries
        self._max_pending = max_pending
        self._pending: deque[_Waiting] = deque()
        self._unsettled: deque[_Waiting] = deque()  # in the order of their deadlines
        self._arrived = asyncio.Event()
        self._rounds: asyncio.Task[None] | None = None
        self._deadlines: asyncio.Task[None] | None = None
        self._closing = False
        self._renewing = asyncio.Lock()
        self._log = get_logger("command_side")

    async def start(self) -> None:
        """Connects. Raises KafkaError when no broker answers or the topic does not exist."""
        self._loop = asyncio.get_running_loop()
        self._producer = self._make_producer()
        await self._producer.start()
        if self._topic not in (await self._producer.client.fetch_all_metadata()).topics():
            await self._producer.stop()
            raise UnknownTopicOrPartitionError(f"there is no topic {self._topic}: run `footfall topics create`")
        partitions = await self._producer.partitions_for(self._topic)
        self._partition_of = partition_chooser(len(partitions))
        self._rounds = asyncio.create_task(self._run_rounds(), name="produce-rounds")
        self._deadlines = asyncio.create_task(self._enforce_deadlines(), name="publish-deadlines")

    async def close(self) -> None:
        """Sends what is pending, within `CLOSE_TIMEOUT`, and disconnects."""
        self._closing = True
        self._arrived.set()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                if self._rounds is not None:
                    await self._rounds
                await self._producer.stop()
        except TimeoutError:
            self._log.warning("producer_close_timed_out", pending=len(self._pending))
        finally:
            if self._deadlines is not None:
                self._deadlines.cancel()
            for waiting in self._unsettled:
                self._give_up(waiting)

    async def connected(self) -> bool:
        """Whether a broker answers a metadata request now."""
        await self._producer.client.fetch_all_metadata()
        return True

    async def publish(self, record: EventRecord) -> Position | None:
        """See `EventLog.publish`. Raises LogBusyError, PublishFailedError or PublishUnknownError within the timeout."""
        if len(self._pending) >= self._max_pending:
            _refused.inc()
            raise LogBusyError
        waiting = _Waiting(record, self._loop.create_future(), self._loop.time() + self._timeout)
        self._pending.append(waiting)
        self._unsettled.append(waiting)
        self._arrived.set()
        return await waiting.future

    async def _enforce_deadlines(self) -> None:
        """Answers, for ever, the publishers whose time is over.

        One timer for all: on Python 3.11 each `asyncio.timeout` costs three system calls (getpid, docs/performance.md).
        """
        while True:
            await asyncio.sleep(DEADLINE_INTERVAL)
            now, unsettled = self._loop.time(), self._unsettled
            while unsettled and (unsettled[0].future.done() or unsettled[0].deadline <= now):
                self._give_up(unsettled.popleft())

    def _give_up(self, waiting: _Waiting) -> None:
        if waiting.future.done():
            return
        if waiting.sent:
            _unknown.inc()
            waiting.future.set_exception(PublishUnknownError())
        else:
            _failed.inc()  # it never left this process, and now it never will
            waiting.future.set_exception(PublishFailedError())

    async def _run_rounds(self) -> None:
        while self._pending or not self._closing:
            await self._arrived.wait()
            self._arrived.clear()
            while self._pending:
                taken = self._take_round()
                await self._run_round(taken)
                if len(taken) > BUSY_ROUND:  # a batch costs as much as many records: fewer, larger rounds
                    await asyncio.sleep(BUSY_PAUSE)

    def _take_round(self) -> list[_Waiting]:
        """The next records whose publishers still wait."""
        count = min(len(self._pending), MAX_ROUND_RECORDS)
        taken = [self._pending.popleft() for _ in range(count)]
        return [waiting for waiting in taken if not waiting.future.done()]

    async def _run_round(self, waiting: list[_Waiting]) -> None:
        by_partition: dict[int, list[_Waiting]] = {}
        for one in waiting:
            one.sent = True
            by_partition.setdefault(self._partition_of(one.record.key), []).append(one)
        with PUBLISH_SECONDS.time():
            await asyncio.gather(*(self._send(partition, group) for partition, group in by_partition.items()))

    async def _send(self, partition: int, waiting: list[_Waiting]) -> None:
        """Publishes the records of one partition; every publisher learns its outcome, so this never raises."""
        producer = self._producer
        try:
            await self._send_in_batches(partition, waiting)
        except MessageSizeTooLargeError as error:
            await self._renew_producer(producer)
            await self._send_halves(partition, waiting, error)
        except OUTCOME_UNKNOWN as error:
            self._settle(waiting, PublishUnknownError(), error)
        except Exception as error:  # noqa: BLE001 - whatever it was, the publishers must not wait for ever
            self._settle(waiting, PublishFailedError(), error)
            await self._renew_producer(producer)

    async def _renew_producer(self, spoiled: AIOKafkaProducer) -> None:
        """Replaces an idempotent producer of which Kafka refused a batch for good.

        The refused batch counts in the producer's sequence for its partition, so Kafka would refuse every later batch
        as out of order, for ever (aiokafka issue 1017). A new producer has a new id, and its sequences begin anew.
        """
        try:
            async with self._renewing, asyncio.timeout(self._timeout):
                if self._producer is not spoiled:  # another partition's refusal has done it
                    return
                fresh = self._make_producer()
                await fresh.start()
                self._producer = fresh
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await spoiled.stop()
        except (KafkaError, TimeoutError) as error:  # the next refusal tries again
            self._log.warning("producer_not_renewed", error=type(error).__name__)

    async def _send_halves(self, partition: int, waiting: list[_Waiting], error: Exception) -> None:
        """The broker finds a batch too large: smaller ones may pass; only a record too large by itself must fail."""
        left = [one for one in waiting if not one.future.done()]
        if len(left) <= 1:
            self._settle(left, PublishFailedError(), error)
            return
        middle = len(left) // 2
        await self._send(partition, left[:middle])
        await self._send(partition, left[middle:])

    async def _send_in_batches(self, partition: int, waiting: list[_Waiting]) -> None:
        remaining = waiting
        while remaining:
            metadata, count = await self._send_batch(partition, remaining)
            first = metadata.offset  # negative when a retry found the batch written, and the broker forgot where
            for index, one in enumerate(remaining[:count]):
                if not one.future.done():
                    one.future.set_result(Position(partition, first + index) if first >= 0 else None)
            _published.inc(count)
            remaining = remaining[count:]

    async def _send_batch(self, partition: int, waiting: list[_Waiting]) -> tuple[Any, int]:
        """Sends as many of the records as fit into one batch, with retries; returns its metadata and their number.

        A retry is a new batch with the same event ids: were both to land, the projector would keep the first.
        """
        try:
            return await self._try_batch(partition, waiting)
        except KafkaError as error:
            if self._retries == 0 or not is_worth_a_retry(error):
                raise
        async for attempt in stamina.retry_context(
            on=is_worth_a_retry, attempts=self._retries, timeout=self._timeout, wait_initial=RETRY_WAIT
        ):
            with attempt:
                return await self._try_batch(partition, waiting)
        raise AssertionError("stamina either returns or raises")

    async def _try_batch(self, partition: int, waiting: list[_Waiting]) -> tuple[Any, int]:
        batch, count = self._fill_batch(waiting)
        return await (await self._producer.send_batch(batch, self._topic, partition=partition)), count

    def _fill_batch(self, waiting: Iterable[_Waiting]) -> tuple[Any, int]:
        batch = self._producer.create_batch()
        now = int(time.time() * 1000)
        count = 0
        for one in waiting:
            record = one.record
            if batch.append(timestamp=now, key=record.key, value=record.value, headers=record.headers) is None:
                break
            count += 1
        return batch, count

    def _settle(self, waiting: list[_Waiting], outcome: Exception, cause: Exception) -> None:
        counter = _unknown if isinstance(outcome, PublishUnknownError) else _failed
        self._log.error("publish_failed", error=type(cause).__name__, events=len(waiting))
        for one in waiting:
            if not one.future.done():
                counter.inc()
                one.future.set_exception(outcome)


def is_worth_a_retry(error: Exception) -> bool:
    """Kafka's own word on whether the same request may succeed a little later."""
    return isinstance(error, KafkaError) and bool(getattr(error, "retriable", False))


def partition_chooser(partitions: int) -> Any:
    """Kafka's default partitioner (murmur2 of the key, as every Java client does), remembered for recent keys."""

    @lru_cache(maxsize=65_536)
    def choose(key: bytes) -> int:
        return int((murmur2(key) & 0x7FFFFFFF) % partitions)

    return choose
