"""Asks Kafka now and then which of the projector's rights it withholds."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from brokers.diagnosis import with_reason
from brokers.rights import AUDIT, DEAD_LETTERS, EVENTS, GROUP, Right, least_rights, missing_rights
from projector.settings import ProjectorSettings
from telemetry.background import running_beside
from telemetry.connections import ended_within
from telemetry.logs import get_logger

INTERVAL = 3.0  # seconds between questions while a right is missing
SELDOM = 30.0  # seconds between questions otherwise; somebody may take a right away
PATIENCE = 10.0  # seconds for an answer
CLOSE_TIMEOUT = 2.0  # seconds


class NotAsked(msgspec.Struct, frozen=True):
    """Kafka has not answered yet: nothing is known, and the probe of Kafka says why."""


class Given(msgspec.Struct, frozen=True):
    """Kafka withheld nothing when it was last asked, or does not tell."""


class Missing(msgspec.Struct, frozen=True):
    """Kafka withheld these rights when it was last asked."""

    rights: Sequence[Right]

    def __str__(self) -> str:
        return f"Kafka does not let this user {', '.join(map(str, self.rights))}"


Rights = NotAsked | Given | Missing


class RightsWatch:
    """`found`: what Kafka said when it was last asked."""

    def __init__(self, settings: ProjectorSettings) -> None:
        names = {
            EVENTS: settings.kafka_topic,
            DEAD_LETTERS: settings.kafka_dlq_topic,
            GROUP: settings.kafka_group_id,
            AUDIT: settings.kafka_audit_topic,
        }
        self._needed = least_rights("projector", names)
        self._options: Callable[[], Mapping[str, Any]] = settings.client_options
        self._client: AIOKafkaClient | None = None
        self.found: Rights = NotAsked()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Asks while the body runs."""
        try:
            async with running_beside(self._run, "rights watch"):
                yield
        finally:
            await self._disconnect()

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._ask()
            except (KafkaError, OSError, TimeoutError) as error:  # the probe of Kafka reports it
                get_logger("projector").info("rights_not_checked", error=type(error).__name__)
                await self._disconnect()
            await asyncio.sleep(SELDOM if isinstance(self.found, Given) and self._client is not None else INTERVAL)

    async def _ask(self) -> None:
        client = await self._connected()
        missing = await missing_rights(client, self._needed)
        found = Missing(missing) if missing else Given()
        if missing and found != self.found:
            get_logger("projector").error("rights_missing", reason=[str(right) for right in missing])
        self.found = found

    async def _connected(self) -> AIOKafkaClient:
        if self._client is None:
            options = self._options()
            self._client = client = AIOKafkaClient(**options, client_id="footfall-rights")
            await with_reason(options, client.bootstrap)
        return self._client

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await ended_within(CLOSE_TIMEOUT, client.close)
