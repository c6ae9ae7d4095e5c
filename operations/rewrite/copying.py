"""Copies a topic, offset by offset: the end of the new topic is where to go on, so a kill costs nothing.

Where the old topic has no record at an offset, or had one that was aborted, the copy is a blank.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from brokers.diagnosis import with_reason
from operations.refusal import RefusedError
from operations.rewrite.reading import Reader
from operations.rewrite.substitutes import Copy, blank
from projector.failpoints import reached
from telemetry.connections import ended_within

Substitute = Callable[[ConsumerRecord], Copy]
OnProgress = Callable[[int], None]  # is called with how many offsets were passed
Ends = dict[str, Mapping[int, int]]  # where each new topic ended when this process had copied all

IN_FLIGHT = 8  # batches that are on their way at the same time
SETTLED = 1.0  # seconds in which the end of the new topic must not move: a killed copy's last request may be on its way
LARGEST_REQUEST = 64 * 1024 * 1024  # bytes
BATCH = 256 * 1024  # bytes
CLOSE_TIMEOUT = 2.0  # seconds; aiokafka's stop() can hang while the broker is down


class Copier:
    """Copies topics over one producer."""

    def __init__(self, reader: Reader, producer: AIOKafkaProducer, ends: Ends, on_progress: OnProgress) -> None:
        self._reader, self._producer, self._ends, self._on_progress = reader, producer, ends, on_progress

    async def copy(self, source: str, target: str, substitute: Substitute) -> dict[int, int]:
        """Copies what the target lacks. Returns how far each partition is copied now.

        Raises:
            RefusedError: The target has records that are no copies.
            KafkaError: Kafka cannot be used.
        """
        until, done = (await self._reader.reach(source)).stable, await self._where_it_ends(target)
        for partition, end in until.items():
            begin = done.get(partition, 0)
            if begin > end:
                raise RefusedError(_not_a_copy(target, partition))
            await self._copy_partition(source, target, partition, (begin, end), substitute)
        self._ends[target] = dict(until)
        return dict(until)

    async def _where_it_ends(self, target: str) -> Mapping[int, int]:
        ends = (await self._reader.reach(target)).end
        if ends == self._ends.get(target):  # this process has seen the end of its copies, and holds the operators' lock
            return ends
        while any(ends.values()):
            await asyncio.sleep(SETTLED)
            now = (await self._reader.reach(target)).end
            if now == ends:
                break
            ends = now
        return ends

    async def _copy_partition(
        self, source: str, target: str, partition: int, span: tuple[int, int], substitute: Substitute
    ) -> None:
        way = _OnTheWay(self._producer, target, partition, span[0])
        async for copy in _with_blanks(self._reader, source, partition, span, substitute):
            if not way.takes(copy):
                await way.send()
                way.takes(copy)
            if len(way.sent) == IN_FLIGHT:
                self._on_progress(await way.arrived())
        await way.send()
        self._on_progress(await way.arrived())


class _OnTheWay:
    """The batches of one partition that are on their way. Each must get the offset that its first record has."""

    def __init__(self, producer: AIOKafkaProducer, target: str, partition: int, at: int) -> None:
        self._producer, self._target, self._partition = producer, target, partition
        self._at, self._count, self._batch = at, 0, producer.create_batch()
        self.sent: list[tuple[int, int, Any]] = []

    def takes(self, copy: Copy) -> bool:
        """Whether the copy has room in the batch. The first one has, whatever its size."""
        told = {"key": copy.key, "value": copy.value, "timestamp": copy.timestamp, "headers": list(copy.headers)}
        if self._batch.append(**told) is None:
            return False
        self._count += 1
        return True

    async def send(self) -> None:
        """Sends the batch, and begins another."""
        if self._count:
            future = await self._producer.send_batch(self._batch, self._target, partition=self._partition)
            self.sent.append((self._at, self._count, future))
        self._at, self._count, self._batch = self._at + self._count, 0, self._producer.create_batch()

    async def arrived(self) -> int:
        """Waits for the batches that are sent. Returns how many records they have."""
        for offset, _, future in self.sent:
            if await self._offset_of(future) != offset:
                raise RefusedError(_not_a_copy(self._target, self._partition))
        await reached("rewrite_copied")
        count = sum(count for _, count, _ in self.sent)
        self.sent.clear()
        return count

    async def _offset_of(self, future: Any) -> int:
        try:
            offset: int = (await future).offset
        except KafkaError as error:
            if error.retriable:  # Kafka is away, or was for too long
                raise
            raise RefusedError(_refused(self._target, self._partition, error)) from error
        return offset


def _refused(target: str, partition: int, error: KafkaError) -> str:
    return (
        f"Kafka refuses copies in partition {partition} of {target}: {type(error).__name__}. Look at that topic's "
        "configuration and rights, which somebody changed; then repeat the step, which goes on where it was."
    )


def _not_a_copy(target: str, partition: int) -> str:
    return (
        f"Somebody else wrote into partition {partition} of {target}, which is to be a copy. Does a process have it as "
        "KAFKA_TOPIC already? Stop that one; look at what it wrote, for the old topic does not have it; then: footfall "
        "privacy rewrite abandon --force, and begin anew"
    )


async def _with_blanks(
    reader: Reader, source: str, partition: int, span: tuple[int, int], substitute: Substitute
) -> AsyncIterator[Copy]:
    """Yields one copy for each offset."""
    at, end = span
    async for record in reader.records(source, partition, at, end):
        for _ in range(at, record.offset):
            yield blank()
        yield substitute(record)
        at = record.offset + 1
    for _ in range(at, end):
        yield blank()


@asynccontextmanager
async def copying(options: Mapping[str, Any], ends: Ends, on_progress: OnProgress) -> AsyncIterator[Copier]:
    """Yields a copier. `ends`: of the copies that this process has made before; it is kept up."""
    producer = AIOKafkaProducer(
        **options,
        client_id="footfall-rewrite",
        acks="all",
        enable_idempotence=True,
        linger_ms=5,
        compression_type="gzip",
        max_batch_size=BATCH,
        max_request_size=LARGEST_REQUEST,
    )
    await with_reason(options, producer.start)
    try:
        yield Copier(Reader(options), producer, ends, on_progress)
    finally:
        await ended_within(CLOSE_TIMEOUT, producer.stop)
