"""The command side's composition root: producer, log, routes, and the layers around them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer
from litestar import Litestar

from command_side.kafka_event_log import KafkaEventLog
from command_side.routes import GENERATE, generate_route
from command_side.settings import CommandSettings
from telemetry.health import DependencyState


class CommandSide:
    """Everything of the command side that an application needs."""

    def __init__(self, settings: CommandSettings) -> None:
        self._log = KafkaEventLog(
            lambda: producer_of(settings),
            settings.kafka_topic,
            timeout=settings.publish_timeout_ms / 1000,
            retries=settings.publish_retries,
            max_pending=settings.publish_max_pending,
        )
        self.route_handlers = [generate_route(self._log, settings)]
        self.direct_routes = {GENERATE: self.route_handlers[0].fn}  # past the router, which costs 10 us
        self.probes = {"kafka": self._kafka_state}

    @asynccontextmanager
    async def lifespan(self, _app: Litestar) -> AsyncIterator[None]:
        """Connects to Kafka; publishes what is pending before it disconnects."""
        await self._log.start()
        try:
            yield
        finally:
            await self._log.close()

    async def _kafka_state(self) -> DependencyState:
        return DependencyState(ok=await self._log.connected())


def producer_of(settings: CommandSettings) -> AIOKafkaProducer:
    """An idempotent producer with acks=all; see libraries' defaults in docs/decisions/0005."""
    return AIOKafkaProducer(
        **settings.client_options(),
        client_id="footfall-command-side",
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        compression_type=None if settings.kafka_compression == "none" else settings.kafka_compression,
        max_batch_size=262_144,
        max_request_size=1_048_576,
        request_timeout_ms=settings.publish_timeout_ms,
    )
