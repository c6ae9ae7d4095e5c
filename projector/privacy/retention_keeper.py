"""Lets the read model forget what is older than RETENTION_DAYS, once an hour, beside the projection.

The projector that holds partition 0 of the active generation does it for all, in every generation: so a build has
forgotten, too, before queries can see it. Two at once do no harm.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from projector.privacy.retention import declare, forget_as_it_was
from projector.settings import ProjectorSettings
from read_model.connecting.pool import connect
from read_model.generations.register import list_generations
from telemetry.background import running_beside
from telemetry.logs import get_logger

INTERVAL = 3_600.0  # seconds between two runs
LOOK_INTERVAL = 2.0  # seconds between two looks whether this projector is the one
AFTER_FAILURE = 60.0  # seconds
STEP_TIMEOUT = 60.0  # seconds for one statement
REST = 1.0  # seconds of rest for each second of work


class RetentionKeeper:
    """Declares the settings and deletes while `is_mine()` says that this projector is the one to do it."""

    def __init__(self, settings: ProjectorSettings, is_mine: Callable[[], bool]) -> None:
        self._settings, self._is_mine = settings, is_mine
        self._log = get_logger("projector")

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Keeps it during the body."""
        async with running_beside(self._keep, "retention"):
            yield

    async def _keep(self) -> None:
        due = 0.0
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            if not self._is_mine() or time.monotonic() < due:
                continue
            try:
                await self.run_once()
                due = time.monotonic() + INTERVAL
            except Exception as error:  # noqa: BLE001 - it must never disturb projecting, and is tried again
                self._log.warning("retention_failed", error=type(error).__name__)
                due = time.monotonic() + AFTER_FAILURE

    async def run_once(self) -> None:
        """Declares what the settings say, and deletes what is too old if they say anything."""
        # Not one of the pool's connections: a run takes minutes.
        connection = await connect(
            self._settings.database_url, "footfall-projector-retention", query_timeout=STEP_TIMEOUT
        )
        try:
            await declare(connection, self._settings.retention_days, self._settings.retention_counts_days)
            if self._settings.retention_days is None:
                return
            there = [each for each in await list_generations(connection) if each.state != "dropping"]
            found = await forget_as_it_was(connection, there, rest=REST)
        finally:
            connection.terminate()
        for generation, rows in found.items():
            self._log.info("retention_ran", generation=generation, rows=dict(rows))
