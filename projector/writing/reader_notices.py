"""Tells readers that the read model moved: after each commit, on a session of its own.

PostgreSQL has one queue of notifications for all its databases, and any session may fill it: then every COMMIT of a
transaction that notifies fails. So no batch notifies; a herald does, and its failures concern nobody else (decision
record "Readers are told beside the batch").
"""

import asyncio
import time
from typing import Any

from read_model.progress import WAKE_IF_ACTIVE
from telemetry.logs import get_logger

PATIENCE = 10.0  # seconds for one notification; a session that says nothing for so long is gone
RETRY = 0.5  # seconds until the next try after two failures in a row
SAY_EVERY = 30.0  # seconds between two warnings


class Herald:
    """One generation's. `pool`: where it takes its session from, and keeps it."""

    def __init__(self, pool: Any, generation: str) -> None:
        self._pool = pool
        self._wake = WAKE_IF_ACTIVE.format(generation=generation)
        self._log = get_logger("projector").bind(generation=generation)
        self._news = asyncio.Event()
        self._told = asyncio.Event()
        self._told.set()
        self._said_at = -SAY_EVERY

    def tell(self) -> None:
        """Something was committed. Costs the caller nothing; what is said while a notification is on its way is one."""
        self._told.clear()
        self._news.set()

    async def everything_told(self) -> None:
        """Returns once nothing is left to tell."""
        await self._told.wait()

    async def run(self) -> None:
        """Until cancelled. Whatever fails is tried again: a reader that is not told looks for itself a little later."""
        failures = 0
        while True:
            try:
                async with self._pool.acquire(timeout=PATIENCE) as connection:
                    while True:
                        await self._news.wait()
                        self._news.clear()
                        async with asyncio.timeout(PATIENCE):
                            await connection.execute(self._wake)
                        failures = 0
                        if not self._news.is_set():
                            self._told.set()
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not disturb projecting
                failures += 1
                self._news.set()
                self._warn(error)
                await asyncio.sleep(RETRY if failures > 1 else 0)

    def _warn(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._said_at >= SAY_EVERY:
            self._said_at = now
            self._log.warning("readers_not_told", error=type(error).__name__, sqlstate=getattr(error, "sqlstate", None))
