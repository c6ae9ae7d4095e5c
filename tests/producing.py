"""Records straight to the topic, and what became of them: the topic read back, the rows, the checkpoints."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import uuid_utils.compat
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.structs import ConsumerRecord

from contracts.event import DEFAULT_TENANT, UserEvent
from contracts.record import from_value
from contracts.versions import encode_event
from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.processes import Process, wait_until
from tests.servers import Servers


@dataclass(frozen=True)
class Raw:
    """One record as a producer sends it. `partition` None: by key."""

    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    timestamp_ms: int | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def an_event(user: str = "user-1", payload: dict[str, Any] | None = None, **fields: Any) -> UserEvent:
    """A valid event with a fresh id."""
    return UserEvent(
        event_id=fields.get("event_id") or uuid_utils.compat.uuid7(),
        user_id=user,
        event_type=fields.get("event_type", "PRODUCT_VIEW"),
        timestamp=fields.get("timestamp") or datetime.now(UTC),
        tenant_id=fields.get("tenant_id", DEFAULT_TENANT),
        payload=payload if payload is not None else {"productId": "p-1"},
    )


def record_of(event: UserEvent, partition: int | None = None) -> Raw:
    """The record of an event, keyed by its user."""
    return Raw(encode_event(event), event.user_id.encode(), partition)


def some_records(count: int, users: int = 40) -> list[Raw]:
    """Valid records of so many users in turn, each event numbered."""
    return [record_of(an_event(f"user-{n % users}", {"n": n})) for n in range(count)]


async def send(kafka: str, topic: str, records: Iterable[Raw], **options: Any) -> list[tuple[int, int]]:
    """Produces with acks=all, in order; returns (partition, offset) of each."""
    producer = AIOKafkaProducer(**{"bootstrap_servers": kafka, "acks": "all", "linger_ms": 5, **options})
    await producer.start()
    try:
        sent = [
            await producer.send(
                topic,
                record.value,
                key=record.key,
                partition=record.partition,
                timestamp_ms=record.timestamp_ms,
                headers=list(record.headers),
            )
            for record in records
        ]
        return [(found.partition, found.offset) for found in await asyncio.gather(*sent)]
    finally:
        await producer.stop()


def produce(footfall: Footfall, records: Iterable[Raw], **options: Any) -> list[tuple[int, int]]:
    """`send`, for a test that is not a coroutine."""
    return asyncio.run(send(footfall.servers.kafka, footfall.topic, records, **options))


class Flow:
    """Events that keep coming, from a thread, about 400 a second, until the body ends."""

    def __init__(self, kafka: str, topic: str) -> None:
        self._kafka, self._topic = kafka, topic
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.sent = 0

    def __enter__(self) -> "Flow":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self._kafka, acks="all", enable_idempotence=True)
        await producer.start()
        try:
            while not self._ended.is_set():
                sent = [
                    await producer.send(self._topic, record.value, key=record.key) for record in some_records(20, 37)
                ]
                await asyncio.gather(*sent)
                self.sent += len(sent)
                await asyncio.sleep(0.05)  # the rate of the flow; nothing waits for it
        finally:
            await producer.stop()


async def _read_topic(kafka: str, topic: str) -> list[ConsumerRecord]:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()  # without a group it gets every partition
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        found: list[ConsumerRecord] = []
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += records
        return found
    finally:
        await consumer.stop()


def committed_records(kafka: str, topic: str) -> list[ConsumerRecord]:
    """Every committed record of a topic, read without Footfall's code, in order for each partition."""
    return asyncio.run(_read_topic(kafka, topic))


def read_topic(footfall: Footfall) -> list[ConsumerRecord]:
    """`committed_records` of the topic of the events."""
    return committed_records(footfall.servers.kafka, footfall.topic)


async def _fetch(url: str, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        found: list[asyncpg.Record] = await connection.fetch(statement)
        return found
    finally:
        await connection.close()


def sql(servers: Servers, statement: str) -> list[asyncpg.Record]:
    """Runs one statement as the owner of the database."""
    return asyncio.run(_fetch(servers.admin_url, statement))


@contextmanager
def holding_checkpoints(servers: Servers) -> Iterator[None]:
    """Projectors cannot commit while the body runs: their checkpoints are locked."""
    locked, release = threading.Event(), threading.Event()

    async def hold() -> None:
        connection = await asyncpg.connect(servers.admin_url)
        async with connection.transaction():
            await connection.execute("LOCK TABLE read_g1.checkpoints IN SHARE ROW EXCLUSIVE MODE")
            locked.set()
            await asyncio.to_thread(release.wait)
        await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(hold()), daemon=True)
    thread.start()
    assert locked.wait(PATIENCE)
    try:
        yield
    finally:
        release.set()
        thread.join(PATIENCE)


def rows(footfall: Footfall) -> list[asyncpg.Record]:
    """Every stored event, by partition and offset."""
    return sql(footfall.servers, "SELECT * FROM read_g1.processed_events ORDER BY kafka_partition, kafka_offset")


def checkpoints(footfall: Footfall) -> dict[int, asyncpg.Record]:
    """The checkpoints of the topic, by partition."""
    found = sql(footfall.servers, f"SELECT * FROM read_g1.checkpoints WHERE topic = '{footfall.topic}'")
    return {row["partition"]: row for row in found}


def processed(footfall: Footfall) -> int:
    """Records that the checkpoints have passed: stored, duplicate or malformed."""
    return sum(row["stored"] + row["duplicates"] + row["malformed"] for row in checkpoints(footfall).values())


def wait_until_processed(footfall: Footfall, count: int, within: float = 30.0) -> None:
    """Waits until the checkpoints have passed so many records."""
    wait_until(lambda: processed(footfall) >= count, within, f"{count} records to be processed")


def assert_exactly_once(footfall: Footfall) -> None:
    """Compares an independent read of the whole topic with rows and checkpoints, event by event."""
    records = read_topic(footfall)
    events: dict[UUID, list[tuple[int, int, bytes]]] = {}
    malformed: Counter[int] = Counter()
    for record in records:
        event = from_value(record.value)
        if isinstance(event, UserEvent):
            at = (record.partition, record.offset, encode_event(event))
            events.setdefault(event.event_id, []).append(at)
        else:
            malformed[record.partition] += 1
    stored = rows(footfall)
    assert {row["event_id"] for row in stored} == events.keys()
    assert len(stored) == len(events)
    for row in stored:
        at = (row["kafka_partition"], row["kafka_offset"], row["event_json"].encode())
        assert at in events[row["event_id"]]
    assert_in_order(stored)
    counted = Counter(record.partition for record in records)
    stored_of = Counter(row["kafka_partition"] for row in stored)
    for partition, row in checkpoints(footfall).items():
        assert row["stored"] == stored_of[partition]
        assert row["malformed"] == malformed[partition]
        assert row["stored"] + row["duplicates"] + row["malformed"] == counted[partition]
        last = max((record.offset for record in records if record.partition == partition), default=-1)
        assert row["next_offset"] == last + 1


def assert_in_order(stored: Sequence[asyncpg.Record]) -> None:
    """Within a partition, and so for each user, no later record was stored before an earlier one."""
    times: dict[int, datetime] = {}
    for row in stored:
        partition = row["kafka_partition"]
        assert row["projected_at"] >= times.get(partition, row["projected_at"])
        times[partition] = row["projected_at"]


def metric(process: Process, name: str) -> float:
    """The value of a metric, summed over its labels; -1 while the process does not answer."""
    try:
        text = httpx.get(f"{process.url}/metrics", timeout=PATIENCE).text
    except httpx.TransportError:
        return -1
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{")))


def wait_until_owning(process: Process, partitions: int, within: float = 30.0) -> None:
    """Waits until a projector owns exactly so many partitions."""
    wait_until(
        lambda: metric(process, "partitions_owned") == partitions,
        within,
        f"{partitions} partitions to be owned; its log: {process.log}",
    )


def start_projector(footfall: Footfall, **environment: str) -> Process:
    """A projector whose death is noticed within 2 s instead of 30."""
    return footfall.start(
        "projector", ready=True, KAFKA_SESSION_TIMEOUT_MS="2000", KAFKA_HEARTBEAT_INTERVAL_MS="300", **environment
    )


def logged(process: Process, event: str) -> list[dict[str, Any]]:
    """The log lines of one kind."""
    lines = [json.loads(line) for line in process.log_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("event") == event]


async def delete_before(kafka: str, topic: str, partition: int, offset: int) -> None:
    """Takes the beginning of a partition away, as retention would."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before_offset=offset)})
    finally:
        await admin.close()


async def produce_transactions(kafka: str, topic: str, parts: list[tuple[bool, list[Raw]]]) -> None:
    """One transaction for each part: committed, or aborted."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"tx-{topic}")
    await producer.start()
    try:
        for committed, records in parts:
            await producer.begin_transaction()
            sent = [await producer.send(topic, r.value, key=r.key, partition=r.partition) for r in records]
            await asyncio.gather(*sent)
            await (producer.commit_transaction() if committed else producer.abort_transaction())
    finally:
        await producer.stop()
