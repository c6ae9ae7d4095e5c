"""Notifies readers after each commit that the read model advanced, over a database session of its own.

PostgreSQL has one queue of notifications for all its databases, and any session can fill it. Then every COMMIT of a
transaction that notifies fails. So no batch notifies. A separate notifier does, and its failures affect nothing else
(docs/decisions/0019).
"""

import asyncio
import time
from typing import Any

from read_model.progress import WAKE_IF_ACTIVE
from telemetry.logs import get_logger

PATIENCE = 10.0  # seconds for one notification; a session silent for longer is lost
RETRY = 0.5  # seconds before the next attempt after two failures in a row
WARNING_INTERVAL = 30.0  # seconds between two warnings


class ReaderNotifier:
    """Notifies the readers of one generation. It takes one session from `pool` and keeps it."""

    def __init__(self, pool: Any, generation: str) -> None:
        self._pool = pool
        self._wake = WAKE_IF_ACTIVE.format(generation=generation)
        self._log = get_logger("projector").bind(generation=generation)
        self._pending = asyncio.Event()
        self._all_sent = asyncio.Event()
        self._all_sent.set()
        self._warned_at = -WARNING_INTERVAL

    def notify(self) -> None:
        """Requests a notification after a commit, without waiting.

        Requests that arrive while a notification is being sent become one notification.
        """
        self._all_sent.clear()
        self._pending.set()

    async def all_sent(self) -> None:
        """Returns once every requested notification is sent."""
        await self._all_sent.wait()

    async def run(self) -> None:
        """Sends requested notifications until cancelled, and retries after any error.

        A reader without a notification polls by itself a little later.
        """
        failures = 0
        while True:
            try:
                async with self._pool.acquire(timeout=PATIENCE) as connection:
                    while True:
                        await self._pending.wait()
                        self._pending.clear()
                        async with asyncio.timeout(PATIENCE):
                            await connection.execute(self._wake)
                        failures = 0
                        if not self._pending.is_set():
                            self._all_sent.set()
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not disturb projecting
                failures += 1
                self._pending.set()
                self._warn(error)
                await asyncio.sleep(RETRY if failures > 1 else 0)

    def _warn(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._warned_at >= WARNING_INTERVAL:
            self._warned_at = now
            self._log.warning("readers_not_told", error=type(error).__name__, sqlstate=getattr(error, "sqlstate", None))
