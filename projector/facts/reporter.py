"""Shows every few seconds what an operator must know of PostgreSQL and the topic.

The projector that holds partition 0 of the active generation does it for all. A question that fails or takes too long
is asked again, and never disturbs projecting.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import Gauge

from projector.facts.database import show_database, show_read_model, show_tables
from projector.facts.obstacles import reason_of
from projector.facts.topic import show_topic
from projector.settings import ProjectorSettings
from read_model.connecting.pool import connect
from telemetry.background import running_beside
from telemetry.logs import get_logger
from telemetry.server_facts import OBSTACLES, OF_DATABASE, OF_READ_MODEL, OF_TABLES, OF_TOPIC, forget

INTERVAL = 10.0  # seconds between two rounds
SOON = 0.5  # seconds until it is asked again whether this projector is the one
PATIENCE = 5.0  # seconds for one question


class FactsReporter:
    """Reports while `generation()` names the active generation, and nothing while it is None."""

    def __init__(self, settings: ProjectorSettings, generation: Callable[[], str | None]) -> None:
        self._settings, self._generation = settings, generation
        self._log = get_logger("projector")

    @asynccontextmanager
    async def reporting(self) -> AsyncIterator[None]:
        """Reports while the body runs."""
        async with running_beside(self._run, "facts reporter"):
            yield

    async def _run(self) -> None:
        while True:
            generation = self._generation()
            if generation is None:
                forget((*OF_TOPIC, *OF_DATABASE, *OF_READ_MODEL, *OF_TABLES))
            else:
                await self.report(generation)
            await asyncio.sleep(SOON if generation is None else INTERVAL)

    async def report(self, generation: str) -> None:
        """Asks everything once."""
        options, topic = self._settings.client_options(), self._settings.kafka_topic
        await self._ask("topic", OF_TOPIC, lambda: show_topic(options, topic))
        await self._ask("database", OF_DATABASE, lambda: self._with_connection(show_database))
        await self._ask(
            "read model", OF_READ_MODEL, lambda: self._with_connection(lambda c: show_read_model(c, generation, topic))
        )
        await self._ask("tables", OF_TABLES, lambda: self._with_connection(show_tables))

    async def _with_connection(self, question: Callable[[Any], Awaitable[None]]) -> None:
        # Not one of the pool's: on a session that went silent even a rollback waits for ever, and projecting with it.
        try:
            connection = await connect(self._settings.database_url, "footfall-projector-facts", query_timeout=PATIENCE)
        except Exception as error:  # those that project would meet the same as soon as they need another connection
            OBSTACLES.labels(reason=reason_of(error)).inc()
            raise
        try:
            await question(connection)
        finally:
            connection.terminate()

    async def _ask(self, what: str, gauges: tuple[Gauge, ...], question: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await question()
        except Exception as error:  # noqa: BLE001 - it must never disturb projecting; health and status say what fails
            forget(gauges)
            self._log.info("facts_not_known", what=what, error=type(error).__name__)
