"""Runs one generation with a consumer, a pool and a Projector of its own, so that none waits for another."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import stamina
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
    RequestTimedOutError,
)
from prometheus_client import Gauge

from brokers.diagnosis import with_reason
from contracts.types import Catalogue
from projector.consuming.consumer_group import CLIENT_ID
from projector.consuming.ownership import Ownership
from projector.consuming.run import MembershipLostError, Projector
from projector.generations.history import HistoryCheck
from projector.generations.limits import GenerationLimits
from projector.liveness.heartbeat import Membership
from projector.privacy.erased_users import product_fields
from projector.projections.projection import PLAN_SETTINGS
from projector.sealed.keys import Keys
from projector.sealed.opener import UNSEALED, Opener, Unsealed
from projector.settings import ProjectorSettings
from projector.writing.checkpoints import Checkpoints
from projector.writing.claims import Claims
from projector.writing.commit import GenerationWriter
from projector.writing.failure import DATABASE_ERRORS
from read_model.connecting.pool import closing, open_pool
from read_model.generations.register import positions, projector_name
from read_model.names import GENERATION
from telemetry.connections import ended_within, once_there
from telemetry.logs import get_logger
from telemetry.metrics import PARTITIONS_OWNED, PARTITIONS_STOPPED, REBUILD_PROGRESS

MAX_POLL_INTERVAL_MS = 1_800_000  # a consumer that fetches nothing while PostgreSQL is unreachable is not dead
BROKERS_AWAY = (OSError, KafkaConnectionError, KafkaTimeoutError, NodeNotReadyError, RequestTimedOutError)
# Beyond the session timeout, after which the group has answered everybody who joins: a broker that is gone is silent.
JOIN_MARGIN_MS = 2_000
METADATA_MAX_AGE_MS = 5_000  # added partitions are noticed within this time, and the group assigns them
# Of one partition in one answer. What holds less than a batch makes small ones, which cost more for each event: sealed
# events take 213 bytes in the log, four times what plain ones do. Of all partitions an answer has 50 MiB at most.
FETCH_BYTES = 2 * 1024 * 1024
CLOSE_TIMEOUT = 5.0  # seconds; aiokafka's stop() can hang while the broker is down
PROGRESS_INTERVAL = 2.0  # seconds between two updates of a build's progress


class GenerationLoop:
    """Projects the generation that `limits` names. `consumer` and `ownership` are set while `run` runs."""

    def __init__(
        self, settings: ProjectorSettings, catalogue: Catalogue, limits: GenerationLimits, keys: Keys | None = None
    ) -> None:
        """`keys`: what opens sealed records; None: there is no key store."""
        self._keys = keys
        self._catalogue = catalogue
        self.limits = limits
        self._settings = settings
        self._name = limits.name
        self.consumer: AIOKafkaConsumer | None = None
        self.ownership: Ownership | None = None
        self.membership = Membership()

    async def run(self, stop: asyncio.Event) -> None:
        """Projects until `stop` is set. Raises an error if Kafka or PostgreSQL cannot be reached at the start."""
        try:
            lost = await self._project(stop)
            while lost and not stop.is_set():  # only a new consumer helps; retry until one can be started
                async for attempt in stamina.retry_context(
                    on=(KafkaError, *DATABASE_ERRORS), attempts=None, timeout=None, wait_max=2.0
                ):
                    with attempt:
                        lost = await self._project(stop)
        finally:
            for gauge in (PARTITIONS_OWNED, PARTITIONS_STOPPED, REBUILD_PROGRESS):
                _forget(gauge, self._name)

    async def _project(self, stop: asyncio.Event) -> bool:
        """Projects with one consumer. Returns True when that consumer lost its group membership for good."""
        settings, lost = self._settings, False
        async with (
            _pool(settings, self._name) as pool,
            _consumer(settings, self._name) as consumer,
            _history(settings, self._name) as history,
        ):
            ownership = Ownership(consumer, self._claims(consumer, pool, history), self.membership)
            self.consumer, self.ownership = consumer, ownership
            self.limits.changed = ownership.wake
            progress = asyncio.create_task(self._report_progress(consumer, pool))
            try:
                projector = Projector(consumer, pool, ownership, self._writer(), settings, self.limits, self._opener())
                await projector.run(stop)
            except* MembershipLostError:
                get_logger("projector").error("membership_lost", generation=self._name)
                lost = True
            finally:
                progress.cancel()
                ownership.release_all()
                self.consumer = self.ownership = None
        return lost

    def _claims(self, consumer: AIOKafkaConsumer, pool: Any, history: HistoryCheck) -> Claims:
        settings = self._settings
        return Claims(
            consumer,
            pool,
            Checkpoints(self._name, settings.kafka_topic, self._catalogue.digest),
            history,
            owner=owner_name(),
            # A build starts at the beginning of the log, wherever the first generation started.
            start_from=settings.start_from if self._name == GENERATION else "earliest",
            products=product_fields(self._catalogue),
        )

    def _writer(self) -> GenerationWriter:
        return GenerationWriter(self._name, self._catalogue)

    def _opener(self) -> Opener | Unsealed:
        return UNSEALED if self._keys is None else self._keys.opener(self._catalogue)

    async def _report_progress(self, consumer: AIOKafkaConsumer, pool: Any) -> None:
        while True:
            if self.limits.current.state == "building":
                with contextlib.suppress(KafkaError, *DATABASE_ERRORS):
                    REBUILD_PROGRESS.labels(generation=self._name).set(await self._progress(consumer, pool))
            else:
                _forget(REBUILD_PROGRESS, self._name)
            await asyncio.sleep(PROGRESS_INTERVAL)

    async def _progress(self, consumer: AIOKafkaConsumer, pool: Any) -> float:
        topic = self._settings.kafka_topic
        partitions = consumer.partitions_for_topic(topic) or set()
        ends = await consumer.end_offsets([TopicPartition(topic, partition) for partition in partitions])
        async with pool.acquire(timeout=CLOSE_TIMEOUT) as connection:
            done = await positions(connection, self._name, topic)
        wanted = sum(ends.values())
        return sum(done.values()) / wanted if wanted else 1.0


def owner_name() -> str:
    """Returns the name of this process in checkpoints: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


def group_of(settings: ProjectorSettings, generation: str) -> str:
    """Returns the name of a generation's consumer group; the first generation uses KAFKA_GROUP_ID unchanged."""
    group = settings.kafka_group_id
    return group if generation == GENERATION else f"{group}-{generation.removeprefix('read_')}"


def _forget(gauge: Gauge, generation: str) -> None:
    with contextlib.suppress(KeyError):
        gauge.remove(generation)


@asynccontextmanager
async def _pool(settings: ProjectorSettings, generation: str) -> AsyncIterator[Any]:
    pool = await open_pool(
        settings.database_url,
        application=projector_name(generation),
        min_size=1,
        max_size=settings.projector_lanes + 5,  # claims, checkpoint checks, a health probe, dead letters, notices
        server_settings=PLAN_SETTINGS,
    )
    async with closing(pool):
        yield pool


@asynccontextmanager
async def _history(settings: ProjectorSettings, generation: str) -> AsyncIterator[HistoryCheck]:
    client_id = f"footfall-history-{owner_name()}-{generation}"
    history = HistoryCheck(settings.client_options(), settings.kafka_topic, client_id)
    try:
        yield history
    finally:
        await history.close()


@asynccontextmanager
async def _consumer(settings: ProjectorSettings, generation: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = await once_there(
        "Kafka", lambda: _started_consumer(settings, generation), BROKERS_AWAY, settings.startup_timeout_ms / 1000
    )
    try:
        yield consumer
    finally:
        if not await ended_within(CLOSE_TIMEOUT, consumer.stop):
            get_logger("projector").warning("consumer_not_closed", generation=generation)


async def _started_consumer(settings: ProjectorSettings, generation: str) -> AIOKafkaConsumer:
    options = settings.client_options()
    consumer = AIOKafkaConsumer(
        **options,
        group_id=group_of(settings, generation),
        client_id=CLIENT_ID.format(owner=owner_name(), generation=generation),
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",  # skip the records of aborted transactions
        session_timeout_ms=settings.kafka_session_timeout_ms,
        group_instance_id=settings.kafka_group_instance_id or None,
        request_timeout_ms=settings.kafka_session_timeout_ms + JOIN_MARGIN_MS,
        heartbeat_interval_ms=settings.kafka_heartbeat_interval_ms,
        max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
        metadata_max_age_ms=METADATA_MAX_AGE_MS,
        fetch_min_bytes=1,
        fetch_max_wait_ms=settings.batch_max_wait_ms,
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    try:
        await with_reason(options, consumer.start)
    except BaseException:
        await ended_within(CLOSE_TIMEOUT, consumer.stop)
        raise
    return consumer
