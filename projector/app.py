"""The projector's composition root: builds everything, runs it, closes it in order."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from projector.checkpoints import Checkpoints
from projector.commit import GenerationWriter
from projector.ownership import Ownership
from projector.run import Projector
from projector.settings import ProjectorSettings
from read_model.pool import open_pool
from read_model.tables import GENERATION
from telemetry.health import DependencyState, Probe
from telemetry.logs import get_logger

MAX_POLL_INTERVAL_MS = 1_800_000  # while PostgreSQL is away no records are taken; that is not a dead consumer
CLOSE_TIMEOUT = 5.0  # seconds; aiokafka's stop() can hang while the broker is down

ServeProbes = Callable[[Mapping[str, Probe]], AbstractAsyncContextManager[None]]


async def run_projector(settings: ProjectorSettings, stop: asyncio.Event, serve_probes: ServeProbes) -> None:
    """Projects until `stop` is set. Raises when Kafka or PostgreSQL cannot be reached at the start."""
    async with _pool(settings) as pool, _consumer(settings) as consumer:
        checkpoints = Checkpoints(GENERATION, settings.kafka_topic)
        ownership = Ownership(consumer, pool, checkpoints, owner=owner_name(), start_from=settings.start_from)
        writer = GenerationWriter(GENERATION)
        async with serve_probes(_probes(settings, consumer, pool, ownership)):
            await Projector(consumer, pool, ownership, writer, settings).run(stop)
    get_logger("projector").info("stopped")


def owner_name() -> str:
    """Names this process in checkpoints: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


@asynccontextmanager
async def _pool(settings: ProjectorSettings) -> AsyncIterator[Any]:
    pool = await open_pool(
        settings.database_url.get_secret_value(),
        application="footfall-projector",
        min_size=1,
        max_size=settings.projector_lanes + 2,  # and the keeper, and a probe
        # A crash of PostgreSQL may lose the last transactions, but rows and checkpoint together: Kafka delivers again.
        server_settings={"synchronous_commit": "off"},
    )
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await pool.close()
        except TimeoutError:
            pool.terminate()


@asynccontextmanager
async def _consumer(settings: ProjectorSettings) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **settings.client_options(),
        group_id=settings.kafka_group_id,
        client_id=f"footfall-projector-{owner_name()}",
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",  # what a producer aborted never happened
        session_timeout_ms=settings.kafka_session_timeout_ms,
        heartbeat_interval_ms=settings.kafka_heartbeat_interval_ms,
        max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
        fetch_min_bytes=1,
        fetch_max_wait_ms=settings.batch_max_wait_ms,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await consumer.stop()
        except TimeoutError:
            get_logger("projector").warning("consumer_close_timed_out")


def _probes(
    settings: ProjectorSettings, consumer: AIOKafkaConsumer, pool: asyncpg.Pool, ownership: Ownership
) -> dict[str, Probe]:
    async def kafka() -> DependencyState:
        await consumer.end_offsets([TopicPartition(settings.kafka_topic, 0)])
        return DependencyState(ok=True)

    async def postgres() -> DependencyState:
        await pool.fetchval("SELECT 1")
        return DependencyState(ok=True)

    async def partitions() -> DependencyState:
        if ownership.stopped:
            reasons = "; ".join(f"{p}: {stopped.reason}" for p, stopped in sorted(ownership.stopped.items()))
            return DependencyState(ok=False, detail=f"stopped partitions: {reasons}")
        return DependencyState(ok=True, detail=f"{len(ownership.held)} held")

    return {"kafka": kafka, "postgres": postgres, "partitions": partitions}
