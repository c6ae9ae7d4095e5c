"""Publishes dead letters from PostgreSQL to a Kafka topic, at least once and in order (decision 7).

Any number of projectors share the work. The first unpublished letter of a partition serves as the partition's lock: the
projector that locks its row publishes the letters that follow. So the letters of one partition reach the topic in
offset order.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError

from projector.dead_letters.parking import header_name
from projector.dead_letters.tracing import record_dead_letters
from projector.settings import ProjectorSettings
from read_model.connecting.pool import Connection
from read_model.wire_time import wire_time
from telemetry.connections import ended_within
from telemetry.logs import get_logger

POLL_INTERVAL = 5.0  # seconds between polls when this projector parks no letter; also after a failure
CHUNK = 100  # letters at most in one transaction
CHUNK_BYTES = 4_194_304  # of record values; a larger single letter is a chunk of its own
PUBLISH_TIMEOUT = 4.0  # seconds; the transaction waits for Kafka, and a claim ends sessions that idle in one for 5 s
START_TIMEOUT = 10.0  # seconds
STOP_TIMEOUT = 1.0  # seconds; aiokafka's stop() can hang while the broker is down
BATCH_BYTES = 524_288  # at most in one Kafka batch, before compression
TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)

UNPUBLISHED_PARTITIONS = """
SELECT kafka_topic, kafka_partition, min(kafka_offset) AS first FROM {generation}.dead_letters
WHERE published_at IS NULL AND EXISTS (SELECT FROM ops.generations WHERE name = $1 AND state = 'active')
GROUP BY 1, 2 ORDER BY 1, 2
"""

LOCK_FIRST = """
SELECT FROM {generation}.dead_letters
WHERE kafka_topic = $1 AND kafka_partition = $2 AND kafka_offset = $3 AND published_at IS NULL
FOR UPDATE SKIP LOCKED
"""

UNPUBLISHED = """
SELECT * FROM (
    SELECT *, sum(coalesce(length(record_value), 0)) OVER (ORDER BY kafka_offset) AS bytes
    FROM (SELECT * FROM {generation}.dead_letters
          WHERE kafka_topic = $1 AND kafka_partition = $2 AND kafka_offset >= $3 AND published_at IS NULL
          ORDER BY kafka_offset LIMIT $4) AS next
) AS summed WHERE bytes <= $5 OR kafka_offset = $3 ORDER BY kafka_offset
"""

PUBLISHED = """
UPDATE {generation}.dead_letters SET published_at = now()
WHERE kafka_topic = $1 AND kafka_partition = $2 AND kafka_offset = ANY($3::bigint[])
"""

MakeProducer = Callable[[], AIOKafkaProducer]


def producer_maker(settings: ProjectorSettings) -> MakeProducer:
    """Returns a function that makes a producer for the publisher, which needs a new one after each failure."""
    return lambda: AIOKafkaProducer(
        **settings.client_options(), acks="all", compression_type="gzip", max_batch_size=BATCH_BYTES
    )


async def publish_dead_letters(
    pool: Any, make_producer: MakeProducer, generation: str, topic: str, wake: asyncio.Event
) -> None:
    """Publishes the unpublished dead letters of a generation, for ever, while it is the active one.

    After any error it tries again later, with a new producer.

    Args:
        pool: the pool of database connections.
        make_producer: makes a producer that is not started.
        generation: the generation whose letters to publish.
        topic: the dead letter topic.
        wake: set by the projector after it parked letters.
    """
    log = get_logger("projector").bind(generation=generation)
    while True:
        try:
            async with _Publisher(pool, make_producer, generation, topic) as publisher:
                while True:
                    wake.clear()
                    while count := await publisher.publish_chunks():
                        log.info("dead_letters_published", count=count)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(POLL_INTERVAL):
                            await wake.wait()
        except Exception as error:  # noqa: BLE001 - publishing must never disturb projecting; the letters are kept
            log.warning("dead_letters_not_published", error=type(error).__name__)
        await asyncio.sleep(POLL_INTERVAL)


class _Publisher:
    """Publishes with one producer, which it makes when there is a letter to publish."""

    def __init__(self, pool: Any, make_producer: MakeProducer, generation: str, topic: str) -> None:
        self._pool = pool
        self._make_producer = make_producer
        self._generation = generation
        self._topic = topic
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> "_Publisher":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._producer is not None:
            await ended_within(STOP_TIMEOUT, self._producer.stop)

    async def publish_chunks(self) -> int:
        """Publishes up to one chunk of each partition that no other projector publishes; returns the letter count."""
        async with self._connection() as connection:
            partitions = await connection.fetch(self._sql(UNPUBLISHED_PARTITIONS), self._generation)
        if not partitions:
            return 0
        producer = await self._started_producer()
        count = 0
        for row in partitions:
            async with self._connection() as connection, connection.transaction():
                count += await self._publish(
                    producer, connection, (row["kafka_topic"], row["kafka_partition"]), row["first"]
                )
        return count

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        async with asyncio.timeout(START_TIMEOUT), self._pool.acquire(timeout=PUBLISH_TIMEOUT) as connection:
            yield connection

    def _sql(self, statement: str) -> str:
        return statement.format(generation=self._generation)

    async def _started_producer(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = self._producer = self._make_producer()
            async with asyncio.timeout(START_TIMEOUT):
                await producer.start()
        return self._producer

    async def _publish(
        self, producer: AIOKafkaProducer, connection: Connection, source: tuple[str, int], first: int
    ) -> int:
        if not await connection.fetch(self._sql(LOCK_FIRST), *source, first):
            return 0
        rows = await connection.fetch(self._sql(UNPUBLISHED), *source, first, CHUNK, CHUNK_BYTES)
        async with asyncio.timeout(PUBLISH_TIMEOUT):
            partitions = sorted(await producer.partitions_for(self._topic))
            partition = partitions[source[1] % len(partitions)]  # one target partition each, so that order is kept
            began, records = time.time_ns(), [_record(row) for row in rows]
            await _send(producer, self._topic, partition, records)
            record_dead_letters([headers for _, _, headers in records], self._topic, began)
        await connection.execute(self._sql(PUBLISHED), *source, [row["kafka_offset"] for row in rows])
        return len(rows)


Headers = list[tuple[str, bytes | None]]
Record = tuple[bytes | None, bytes | None, Headers]


async def _send(producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[Record]) -> None:
    """Sends records in order. It uses `send_batch`, because `send` refuses a record without key and value."""
    rest = list(records)
    while rest:
        batch, count = producer.create_batch(), 0
        while count < len(rest) and _append(batch, rest[count]):
            count += 1
        try:
            await (await producer.send_batch(batch, topic, partition=partition))
        except TOO_LARGE:
            for record in rest[:count]:
                await _send_alone(producer, topic, partition, record)
        rest = rest[count:]


async def _send_alone(producer: AIOKafkaProducer, topic: str, partition: int, record: Record) -> None:
    """Sends one record; if it is too large with the diagnosis headers, without its value, which PostgreSQL keeps."""
    key, value, headers = record
    omitted: Headers = [*headers, ("footfall-dlq-value-omitted", str(len(value or b"")).encode())]
    for attempt in (record, (key, None, omitted)):
        batch = producer.create_batch()
        _append(batch, attempt)
        with suppress(*TOO_LARGE):
            await (await producer.send_batch(batch, topic, partition=partition))
            return
    get_logger("projector").error("dead_letter_too_large_to_publish", partition=partition)


def _append(batch: Any, record: Record) -> bool:
    key, value, headers = record
    return batch.append(key=key, value=value, timestamp=None, headers=headers) is not None


def _record(row: asyncpg.Record) -> Record:
    names = [header_name(name) for name in row["header_names"]]
    headers: Headers = [*zip(names, row["header_values"], strict=True), *diagnosis_headers(row)]
    return row["record_key"], row["record_value"], headers


def diagnosis_headers(row: asyncpg.Record) -> Headers:
    """Returns the headers that say where a letter comes from and why it was parked: UTF-8 text, times in ISO 8601."""
    found = {
        "topic": row["kafka_topic"],
        "partition": row["kafka_partition"],
        "offset": row["kafka_offset"],
        "cause": row["cause"],
        "error-class": row["error_class"],
        "error-message": row["error_message"],
        "attempts": row["attempts"],
        "recorded-at": wire_time(row["recorded_at"]),
        "parked-at": wire_time(row["parked_at"]),
    }
    return [(f"footfall-dlq-{name}", str(value).encode()) for name, value in found.items()]
