"""The projector's composition root: builds everything, runs it, closes it in order."""

import asyncio
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
import stamina
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from projector.ownership import Ownership
from projector.run import MembershipLostError, Projector
from projector.settings import ProjectorSettings
from read_model.pool import open_pool
from telemetry.health import DependencyState, Probe
from telemetry.logs import get_logger

MAX_POLL_INTERVAL_MS = 1_800_000  # while PostgreSQL is away no records are taken; that is not a dead consumer
CLOSE_TIMEOUT = 5.0  # seconds; aiokafka's stop() can hang while the broker is down

ServeProbes = Callable[[Mapping[str, Probe]], AbstractAsyncContextManager[None]]


class Stay(NamedTuple):
    """One stay in the group: a consumer, and what it owns. A new one follows when aiokafka is beyond help."""

    consumer: AIOKafkaConsumer
    ownership: Ownership


async def run_projector(settings: ProjectorSettings, stop: asyncio.Event, serve_probes: ServeProbes) -> None:
    """Projects until `stop` is set. Raises when Kafka or PostgreSQL cannot be reached at the start."""
    async with _pool(settings) as pool:
        present: deque[Stay] = deque(maxlen=1)
        async with serve_probes(_probes(settings, present, pool)):
            present.append(await _begin(settings, pool))
            while await _is_lost(present[0], settings, pool, stop):
                present.append(await _begin_again(settings, pool))
    get_logger("projector").info("stopped")


async def _begin(settings: ProjectorSettings, pool: Any) -> Stay:
    consumer = _consumer(settings)
    try:
        await consumer.start()
    except BaseException:
        await _close(consumer)
        raise
    ownership = Ownership(
        consumer, pool, topic=settings.kafka_topic, owner=owner_name(), start_from=settings.start_from
    )
    return Stay(consumer, ownership)


async def _begin_again(settings: ProjectorSettings, pool: Any) -> Stay:
    async for attempt in stamina.retry_context(on=(KafkaError, OSError), attempts=None, timeout=None, wait_max=2.0):
        with attempt:
            return await _begin(settings, pool)
    raise AssertionError("without a bound on attempts there is no end")


async def _is_lost(stay: Stay, settings: ProjectorSettings, pool: Any, stop: asyncio.Event) -> bool:
    """Projects, then closes the consumer; False when `stop` was the reason."""
    try:
        await Projector(stay.consumer, pool, stay.ownership, settings).run(stop)
    except* MembershipLostError:
        get_logger("projector").error("membership_lost")
    finally:
        stay.ownership.give_up()
        await _close(stay.consumer)
    return not stop.is_set()


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


def _consumer(settings: ProjectorSettings) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
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


async def _close(consumer: AIOKafkaConsumer) -> None:
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await consumer.stop()
    except (KafkaError, TimeoutError) as error:
        get_logger("projector").warning("consumer_not_closed", error=type(error).__name__)


def _probes(settings: ProjectorSettings, present: Sequence[Stay], pool: asyncpg.Pool) -> dict[str, Probe]:
    starting = DependencyState(ok=False, detail="starting")

    async def kafka() -> DependencyState:
        if not present:
            return starting
        await present[0].consumer.end_offsets([TopicPartition(settings.kafka_topic, 0)])
        return DependencyState(ok=True)

    async def postgres() -> DependencyState:
        await pool.fetchval("SELECT 1")
        return DependencyState(ok=True)

    async def partitions() -> DependencyState:
        if not present:
            return starting
        ownership = present[0].ownership
        if ownership.stopped:
            reasons = "; ".join(f"{p}: {reason}" for p, reason in sorted(ownership.stopped.items()))
            return DependencyState(ok=False, detail=f"stopped partitions: {reasons}")
        return DependencyState(ok=True, detail=f"{len(ownership.held)} held")

    return {"kafka": kafka, "postgres": postgres, "partitions": partitions}
