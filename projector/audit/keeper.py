"""Keeps the audit log: appends the notes that come by Kafka, and anchors the log's head there (docs/audit.md).

The projector that holds partition 0 of the active generation does it, beside the projection and never in its way. Two
at once do no harm: a note is written once, and an anchor only says what is true.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError

from contracts.audit_records import AuditAnchor, AuditNote, decode_audit_record, encode_audit_record
from projector.settings import ProjectorSettings
from read_model.audit import FIRST_NOTE_ID, AuditEntry, write_entry
from telemetry.connections import ended_within
from telemetry.logs import get_logger
from telemetry.metrics import AUDIT_ANCHORED

LOOK_INTERVAL = 5.0  # seconds between two looks at the topic
RETRY_DELAY = 30.0  # seconds before the next try after a failure
ANCHOR_INTERVAL = 60.0  # seconds between two anchors of a head that changes
ANCHOR_ANYWAY = 3_600.0  # seconds after which a head that did not change is anchored again
STEP_TIMEOUT = 15.0  # seconds for one statement, or one answer of Kafka
STOP_TIMEOUT = 1.0  # seconds; aiokafka's stop() can hang while the broker is down
SKEW = timedelta(hours=1)  # by how much clocks may differ, and notes be read again

HEAD = "SELECT number, hash FROM ops.audit ORDER BY number DESC LIMIT 1"
ROW = "SELECT hash FROM ops.audit WHERE number = $1"
LOG = "SELECT encode(previous, 'hex') FROM ops.audit WHERE number = 1"
NEWEST_NOTE = "SELECT entry_id FROM ops.audit WHERE entry_id >= $1 ORDER BY entry_id DESC LIMIT 1"


class AuditKeeper:
    """Keeps the log while `is_mine()` says that this projector is the one to do it."""

    def __init__(self, settings: ProjectorSettings, pool: Any, is_mine: Callable[[], bool]) -> None:
        self._options = settings.client_options()
        self._topic = TopicPartition(settings.kafka_audit_topic, 0)
        self._pool = pool
        self._is_mine = is_mine
        self._log = get_logger("projector")
        self._newest: AuditAnchor | None = None  # in the topic
        self._newest_at = -1  # its offset
        self._anchored_at = float("-inf")

    @contextlib.asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Keeps the log during the body."""
        task = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])  # its consumer is closed, within its time limit

    async def _keep(self) -> None:
        while True:
            try:
                while self._is_mine():
                    await self._keep_while_mine()
            except Exception as error:  # noqa: BLE001 - it must never disturb projecting; the log waits in the topic
                self._log.warning("audit_log_not_kept", topic=self._topic.topic, error=type(error).__name__)
                await asyncio.sleep(RETRY_DELAY)
            else:
                await asyncio.sleep(LOOK_INTERVAL)

    async def _keep_while_mine(self) -> None:
        async with _consumer(self._options, self._topic) as consumer:
            await self._seek(consumer)
            while self._is_mine():
                await self._look(consumer)
                await asyncio.sleep(LOOK_INTERVAL)

    async def _seek(self, consumer: AIOKafkaConsumer) -> None:
        """Begins a while before the newest note that is written: what is read again is not written again."""
        newest = await self._asked(NEWEST_NOTE, FIRST_NOTE_ID)
        begin = None
        if newest is not None:
            moment = min(time_of(newest), datetime.now(UTC)) - SKEW
            found = await consumer.offsets_for_times({self._topic: round(moment.timestamp() * 1000)})
            begin = found[self._topic]
        if begin is None:
            await consumer.seek_to_beginning(self._topic)
        else:
            consumer.seek(self._topic, begin.offset)

    async def _look(self, consumer: AIOKafkaConsumer) -> None:
        """Reads what is new in the topic, then anchors the head if it is time."""
        log = await self._asked(LOG)
        begin = (await consumer.beginning_offsets([self._topic]))[self._topic]
        end = (await consumer.end_offsets([self._topic]))[self._topic]
        self._miss(begin, end)
        while await consumer.position(self._topic) < end:
            found = await consumer.getmany(self._topic, timeout_ms=round(LOOK_INTERVAL * 1000))
            for offset, record in self._decoded(found.get(self._topic, ())):
                if isinstance(record, AuditNote):
                    await self._append(record)
                elif record.log == log:
                    self._newest, self._newest_at = record, offset
        await self._compare(log)
        await self._anchor(log)

    def _miss(self, begin: int, end: int) -> None:
        """The topic keeps its records for ever. If the newest anchor is gone from it, the head is anchored at once."""
        if self._newest is not None and not begin <= self._newest_at < end:
            self._log.error("audit_anchors_are_gone", topic=self._topic.topic, remedy="footfall audit verify")
            self._newest, self._anchored_at = None, float("-inf")

    def _decoded(self, records: Iterable[ConsumerRecord]) -> Iterator[tuple[int, AuditAnchor | AuditNote]]:
        for record in records:
            decoded = decode_audit_record(record.value)
            if decoded is None:
                self._log.error("audit_record_unreadable", topic=record.topic, offset=record.offset)
            else:
                yield record.offset, decoded

    async def _append(self, note: AuditNote) -> None:
        async with asyncio.timeout(STEP_TIMEOUT), self._pool.acquire(timeout=STEP_TIMEOUT) as connection:
            await write_entry(connection, entry_of(note))

    async def _compare(self, log: str) -> None:
        """Logs an error if the newest anchor is of a row that is not there, or not as it was."""
        newest = self._newest
        if newest is None or newest.log != log:
            return
        found = await self._asked(ROW, newest.number)
        if found is None or found.hex() != newest.hash:
            self._log.error("audit_log_was_changed", row=newest.number, remedy="footfall audit verify")

    async def _anchor(self, log: str) -> None:
        async with self._pool.acquire(timeout=STEP_TIMEOUT) as connection:
            head = await connection.fetchrow(HEAD, timeout=STEP_TIMEOUT)
        known = None if self._newest is None else (self._newest.log, self._newest.number, self._newest.hash)
        due = ANCHOR_ANYWAY if known == (log, head["number"], head["hash"].hex()) else ANCHOR_INTERVAL
        if time.monotonic() - self._anchored_at < due:
            return
        anchor = AuditAnchor(log, head["number"], head["hash"].hex(), datetime.now(UTC))
        await send(self._options, self._topic, encode_audit_record(anchor))
        self._anchored_at = time.monotonic()
        AUDIT_ANCHORED.set(time.time())

    async def _asked(self, statement: str, *arguments: object) -> Any:
        async with self._pool.acquire(timeout=STEP_TIMEOUT) as connection:
            return await connection.fetchval(statement, *arguments, timeout=STEP_TIMEOUT)


def entry_of(note: AuditNote) -> AuditEntry:
    """Converts a note. PostgreSQL's texts cannot hold U+0000, and no note may be a reason to stop."""
    texts = (note.actor, note.action, note.tenant_id, note.target, note.request_id)
    actor, action, tenant_id, target, request_id = (text.replace("\0", "") for text in texts)
    return AuditEntry(
        actor=actor,
        action=action,
        outcome=note.outcome,
        tenant_id=tenant_id,
        target=target,
        request_id=request_id,
        entry_id=note.entry_id,
    )


def time_of(entry_id: UUID) -> datetime:
    """Returns when a UUIDv7 was made (RFC 9562, 5.7)."""
    return datetime.fromtimestamp((entry_id.int >> 80) / 1000, UTC)


async def send(options: dict[str, Any], topic: TopicPartition, value: bytes) -> None:
    """Sends one record with a producer of its own, and returns once all in-sync replicas have it. Raises KafkaError."""
    producer = AIOKafkaProducer(**options, acks="all", client_id="footfall-audit")
    try:
        async with asyncio.timeout(STEP_TIMEOUT):
            await producer.start()
            await producer.send_and_wait(topic.topic, value, partition=topic.partition)
    finally:
        await ended_within(STOP_TIMEOUT, producer.stop)


@contextlib.asynccontextmanager
async def _consumer(options: dict[str, Any], topic: TopicPartition) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **options, client_id="footfall-audit", group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    try:
        async with asyncio.timeout(STEP_TIMEOUT):
            await consumer.start()
            # Else the client, which loads a topic's partitions on use, asks for this one ten times a second.
            if topic.topic not in await consumer.topics():
                raise UnknownTopicOrPartitionError(topic.topic)
            await consumer.beginning_offsets([topic])
        consumer.assign([topic])
        yield consumer
    finally:
        await ended_within(STOP_TIMEOUT, consumer.stop)
