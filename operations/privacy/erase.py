"""Erases users: publishes their markers, waits until every generation has passed them, and says what is left."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec
from aiokafka import AIOKafkaProducer

from contracts.erasure import UserErasure, erasure_records, new_erasure
from contracts.record import PlacedRecord
from operations.audit.deed import audited, by_url
from operations.settings import PrivacySettings
from read_model.connecting.pool import connect
from read_model.generations.register import (
    PROJECTED,
    Connection,
    Generation,
    list_generations,
    positions,
    write_journal,
)
from read_model.pseudonyms import pseudonym, pseudonym_key
from telemetry.connections import ended_within

POLL = 0.1  # seconds
CLOSE_TIMEOUT = 2.0  # seconds
AT_ONCE = 500  # users whose markers are on their way at the same time

EVENTS = """
SELECT count(*) FROM read.processed_events AS event
JOIN unnest($1::text[], $2::text[]) AS gone(tenant_id, user_id) USING (tenant_id, user_id)
"""

User = tuple[str, str]  # tenant and user id


class Behind(msgspec.Struct, frozen=True):
    """A generation that has not passed every marker, and why it may take long."""

    generation: str
    state: str


class ErasureReport(msgspec.Struct, frozen=True):
    """What became of an erasure.

    `events`: how many the users had when it began. `markers`: by partition, the offset of the last. `behind`: the
    generations that still hold rows; empty: it is done. `remains`: a sentence for each place that keeps bytes.
    """

    erasures: list[UserErasure]
    events: int
    markers: Mapping[int, int]
    behind: list[Behind]
    remains: list[str]
    seconds: float

    @property
    def done(self) -> bool:
        """Whether no generation of the read model holds the users any more."""
        return not self.behind


async def erase(settings: PrivacySettings, users: Sequence[User], actor: str, patience: float) -> ErasureReport:
    """Erases users.

    Args:
        settings: Name the log and the database.
        users: Whom to erase.
        actor: The operator, for the journal, which holds the users' pseudonyms.
        patience: Seconds to wait until every generation has passed the markers.

    Raises:
        KafkaError: Not every marker is in the log. To ask again does no harm.
        AuditUnavailableError: The audit log cannot be written, so nothing was done.
    """
    tenants = {tenant for tenant, _ in users}
    user_id = users[0][1] if len(users) == 1 else None
    write, whose = by_url(settings.database_url.get_secret_value()), ", ".join(sorted(tenants))
    async with audited(
        write, "privacy erase", actor=actor, target=f"{len(users)} users", tenant_id=whose, user_id=user_id
    ) as deed:
        return await _erase(settings, users, actor, deed.request_id, patience)


async def _erase(
    settings: PrivacySettings, users: Sequence[User], actor: str, request_id: str, patience: float
) -> ErasureReport:
    began = time.monotonic()
    connection = await connect(settings.database_url.get_secret_value(), "footfall-privacy")
    try:
        events: int = await connection.fetchval(EVENTS, [tenant for tenant, _ in users], [user for _, user in users])
        erasures = [new_erasure(*user) for user in users]
        # The rows of this command carry one pseudonym; of several users, projectors write one row each.
        markers = await _publish(settings, erasures, request_id, actor if len(users) > 1 else "")
        await _note(connection, erasures, actor, markers)
        behind = await _behind_after(connection, settings.kafka_topic, markers, began + patience)
    finally:
        await connection.close()
    return ErasureReport(erasures, events, markers, behind, _remains(settings), time.monotonic() - began)


async def _publish(
    settings: PrivacySettings, erasures: Sequence[UserErasure], request_id: str, actor: str
) -> dict[int, int]:
    last: dict[int, int] = {}
    async with _producer(settings) as producer:
        partitions = len(await producer.partitions_for(settings.kafka_topic))
        for start in range(0, len(erasures), AT_ONCE):
            records = [
                record
                for erasure in erasures[start : start + AT_ONCE]
                for record in erasure_records(erasure, request_id, partitions, actor)
            ]
            for sent in await _sent(producer, settings.kafka_topic, records):
                last[sent[0]] = max(sent[1], last.get(sent[0], -1))
    return last


async def _sent(producer: AIOKafkaProducer, topic: str, records: Sequence[PlacedRecord]) -> list[tuple[int, int]]:
    sent = [
        await producer.send(topic, one.value, key=one.key, partition=one.partition, headers=one.headers)
        for one in records
    ]
    return [(found.partition, found.offset) for found in await asyncio.gather(*sent)]


@asynccontextmanager
async def _producer(settings: PrivacySettings) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        **settings.client_options(),
        client_id="footfall-privacy",
        acks="all",
        enable_idempotence=True,
        linger_ms=5,
        compression_type="gzip",
    )
    try:
        await producer.start()
        yield producer
    finally:
        await ended_within(CLOSE_TIMEOUT, producer.stop)


async def _note(
    connection: Connection, erasures: Sequence[UserErasure], actor: str, markers: Mapping[int, int]
) -> None:
    key = await pseudonym_key(connection)
    whom = {str(one.erasure_id): pseudonym(key, one.tenant_id, one.user_id).hex() for one in erasures}
    await write_journal(connection, actor, "privacy erase", {"erasures": whom, "markers": dict(markers)})


async def _behind_after(
    connection: Connection, topic: str, markers: Mapping[int, int], deadline: float
) -> list[Behind]:
    """Returns the generations that have not passed the markers; waits for those that are projected."""
    while True:
        behind = [
            each for each in await list_generations(connection) if not await _passed(connection, each, topic, markers)
        ]
        if time.monotonic() > deadline or not any(each.state in PROJECTED for each in behind):
            return [Behind(each.name, each.state) for each in behind]
        await asyncio.sleep(POLL)


async def _passed(connection: Connection, generation: Generation, topic: str, markers: Mapping[int, int]) -> bool:
    if generation.state == "dropping":
        return True
    stands = await positions(connection, generation.name, topic)
    return all(stands.get(partition, 0) > offset for partition, offset in markers.items())


REMAINS = (
    "Topic {topic} keeps the bytes of the users' events, and of these requests, until it is rewritten.",
    "Dead letters that were published to their topic stay there.",
    "PostgreSQL's files keep deleted rows until the space is used again; VACUUM FULL ends that, or a rebuild.",
    "PostgreSQL's write-ahead log, replicas that lag, and backups keep them until they expire.",
    "Exports that were handed out, and consumers of the topic, have what they took.",
)


def _remains(settings: PrivacySettings) -> list[str]:
    return [sentence.format(topic=settings.kafka_topic) for sentence in REMAINS]
