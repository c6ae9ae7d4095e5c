"""Erases users: publishes their markers, waits until every generation has passed them, and says what is left."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import msgspec
from aiokafka import AIOKafkaProducer

from brokers.diagnosis import with_reason
from brokers.registry.registration import wire_format_of
from contracts.erasure import (
    Fenced,
    UserErasure,
    erasure_records,
    new_erasure,
    sealed_erasure_records,
    what_remains,
    what_remains_sealed,
)
from contracts.record import PlacedRecord
from contracts.wire.format import WireFormat
from operations.audit.deed import ERRORS, audited, by_url
from operations.settings import PrivacySettings
from projector.sealed.keeper import keep_once
from projector.sealed.keys import Keys, connected_store
from read_model.connecting.pool import Connection, connect
from read_model.generations.register import (
    PROJECTED,
    Generation,
    list_generations,
    positions,
    write_journal,
)
from read_model.pseudonyms import pseudonym, pseudonym_key
from sealing.errors import KeysError
from sealing.fences import fence
from sealing.sessions import SESSIONS
from sealing.store import KeyStore
from telemetry.connections import ended_within

POLL = 0.1  # seconds
CLOSE_TIMEOUT = 2.0  # seconds
AT_ONCE = 500  # users whose markers are on their way at the same time

EVENTS = """
SELECT count(*) FROM read.processed_events AS event
JOIN unnest($1::text[], $2::text[]) AS gone(tenant_id, user_id) USING (tenant_id, user_id)
"""

PARKED_MARKERS = """
SELECT EXISTS (
    SELECT FROM {generation}.dead_letters
    JOIN unnest($2::int[], $3::bigint[]) AS marker(kafka_partition, kafka_offset) USING (kafka_partition, kafka_offset)
    WHERE kafka_topic = $1
)
"""
UNKNOWN_MARKERS = (
    "Some markers may be in the log, and projectors erase those users when they reach them. Whether every marker is"
    " there is unknown: run the command again, which does no harm"
)
UNKNOWN = (
    "The markers are in the log, so projectors erase the users when they reach them. Whether every generation has"
    " passed them is unknown: the database did not say"
)

User = tuple[str, str]  # tenant and user id
Place = tuple[int, int]  # partition and offset of a marker


class UnknownErasureError(Exception):
    """Markers are in the log, or may be, and what became of them is unknown."""


class Behind(msgspec.Struct, frozen=True):
    """A generation that has not applied every marker, and why it may take long."""

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


async def erase(
    settings: PrivacySettings, users: Sequence[User], actor: str, patience: float, keys: Keys | None = None
) -> ErasureReport:
    """Erases users.

    Args:
        settings: Name the log and the database.
        users: Whom to erase.
        actor: The operator, for the journal, which holds the users' pseudonyms.
        patience: Seconds to wait until every generation has passed the markers.
        keys: Of the sealed log; None: there is no key store.

    Raises:
        KeysError: The key store cannot be used, so nothing was published.
        KafkaError: Kafka cannot be used, so nothing was published.
        RegistryAwayError: Nor can the schema registry, whose id is needed; nothing was published.
        RegistryRefusedError: It does not take the schema; nothing was published.
        UnknownErasureError: Some markers may be in the log; or all are, and the database does not say whether they are
            applied. To ask again does no harm.
        ValueError: Nobody can have such a tenant or id.
        AuditUnavailableError: The audit log cannot be written, so nothing was done.
    """
    tenants = {tenant for tenant, _ in users}
    user_id = users[0][1] if len(users) == 1 else None
    write, whose = by_url(settings.database_url.get_secret_value()), ", ".join(sorted(tenants))
    async with (
        audited(
            write,
            "privacy erase",
            actor=actor,
            target=f"{len(users)} users",
            tenant_id=whose,
            user_id=user_id,
            refusals=(KeysError,),
        ) as deed,
        connected_store(keys) as store,
    ):
        return await _erase(settings, users, actor, deed.request_id, patience, store)


async def _erase(
    settings: PrivacySettings,
    users: Sequence[User],
    actor: str,
    request_id: str,
    patience: float,
    store: KeyStore | None,
) -> ErasureReport:
    began = time.monotonic()
    connection = await connect(settings.database_url.get_secret_value(), "footfall-privacy")
    try:
        events: int = await connection.fetchval(EVENTS, [tenant for tenant, _ in users], [user for _, user in users])
        erasures = [new_erasure(*user) for user in users]
        await _check_rights(connection, settings.kafka_topic, erasures, actor)
        wire = await wire_format_of(settings, settings.kafka_topic)
        # The rows of this command carry one pseudonym; of several users, projectors write one row each.
        fenced = {} if store is None else await _fenced(store, erasures)
        noted = actor if len(users) > 1 else ""
        places = await _publish(settings, erasures, fenced, request_id, noted, wire)
        markers = dict(sorted(places))  # of each partition the last
        try:
            await _note(connection, erasures, actor, markers)
            behind = await _behind_after(connection, settings.kafka_topic, places, began + patience)
            if store is not None and not behind:
                await keep_once(store, connection)
        except (*ERRORS, KeysError) as error:
            raise UnknownErasureError(f"{UNKNOWN} ({type(error).__name__}).") from error
    finally:
        await connection.close()
    remains = what_remains(f"Topic {settings.kafka_topic}") if store is None else what_remains_sealed()
    return ErasureReport(erasures, events, markers, behind, remains, time.monotonic() - began)


async def _fenced(store: KeyStore, erasures: Sequence[UserErasure]) -> dict[UUID, Fenced]:
    """Retires the users' subjects, as many at a time as the key store has sessions for us. Raises KeysError."""
    found: dict[UUID, Fenced] = {}
    for start in range(0, len(erasures), SESSIONS):
        some = erasures[start : start + SESSIONS]
        fences = await asyncio.gather(*(fence(store, one) for one in some))
        found |= {one.erasure_id: fenced for one, fenced in zip(some, fences, strict=True)}
    return found


async def _check_rights(connection: Connection, topic: str, erasures: Sequence[UserErasure], actor: str) -> None:
    """Does, before anything is published, what will be done after it; the journal keeps nothing of that."""
    await _behind(connection, topic, [])
    trial = connection.transaction()
    await trial.start()
    try:
        await _note(connection, erasures, actor, {})
    finally:
        await trial.rollback()


async def _publish(
    settings: PrivacySettings,
    erasures: Sequence[UserErasure],
    fenced: Mapping[UUID, Fenced],
    request_id: str,
    actor: str,
    wire: WireFormat,
) -> list[Place]:
    places: list[Place] = []
    async with _producer(settings) as producer:
        partitions = len(await producer.partitions_for(settings.kafka_topic))
        for start in range(0, len(erasures), AT_ONCE):
            records = [
                record
                for erasure in erasures[start : start + AT_ONCE]
                for record in (
                    sealed_erasure_records(erasure, fenced[erasure.erasure_id], request_id, partitions, actor)
                    if fenced
                    else erasure_records(erasure, request_id, partitions, actor)
                )
            ]
            try:
                places += await _sent(producer, settings.kafka_topic, list(map(wire.written, records)))
            except ERRORS as error:  # some may be in the log, even of those whose answer did not come
                raise UnknownErasureError(f"{UNKNOWN_MARKERS} ({type(error).__name__}).") from error
    return places


async def _sent(producer: AIOKafkaProducer, topic: str, records: Sequence[PlacedRecord]) -> list[Place]:
    sent = [
        await producer.send(topic, one.value, key=one.key, partition=one.partition, headers=one.headers)
        for one in records
    ]
    return [(found.partition, found.offset) for found in await asyncio.gather(*sent)]


@asynccontextmanager
async def _producer(settings: PrivacySettings) -> AsyncIterator[AIOKafkaProducer]:
    options = settings.client_options()
    producer = AIOKafkaProducer(
        **options,
        client_id="footfall-privacy",
        acks="all",
        enable_idempotence=True,
        linger_ms=5,
        compression_type="gzip",
    )
    try:
        await with_reason(options, producer.start)
        yield producer
    finally:
        await ended_within(CLOSE_TIMEOUT, producer.stop)


async def _note(
    connection: Connection, erasures: Sequence[UserErasure], actor: str, markers: Mapping[int, int]
) -> None:
    key = await pseudonym_key(connection)
    whom = {str(one.erasure_id): pseudonym(key, one.tenant_id, one.user_id).hex() for one in erasures}
    await write_journal(connection, actor, "privacy erase", {"erasures": whom, "markers": dict(markers)})


async def _behind_after(connection: Connection, topic: str, places: Sequence[Place], deadline: float) -> list[Behind]:
    """Returns the generations that have not applied the markers; waits for those that are projected."""
    while True:
        behind = await _behind(connection, topic, places)
        if time.monotonic() > deadline or not any(each.state in PROJECTED for each in behind):
            return [Behind(each.name, each.state) for each in behind]
        await asyncio.sleep(POLL)


async def _behind(connection: Connection, topic: str, places: Sequence[Place]) -> list[Generation]:
    return [each for each in await list_generations(connection) if not await _applied(connection, each, topic, places)]


async def _applied(connection: Connection, generation: Generation, topic: str, places: Sequence[Place]) -> bool:
    """Whether the generation has passed every marker, and set none aside as a dead letter."""
    if generation.state == "dropping":
        return True
    stands = await positions(connection, generation.name, topic)
    parked = PARKED_MARKERS.format(generation=generation.name)
    set_aside = await connection.fetchval(parked, topic, [one for one, _ in places], [one for _, one in places])
    return not set_aside and all(stands.get(partition, 0) > offset for partition, offset in places)
