"""Follows the read model's progress: one session listens for notifications, one query serves all waiting requests."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import asyncpg
import stamina

from query_side.log_positions.positions import UNKNOWN_STATE, Position, ReadModelState, not_passed, read_model_state
from read_model.connecting.database_url import Url
from read_model.connecting.pool import CONNECT_TIMEOUT, connect
from read_model.connecting.unavailable import DATABASE_UNAVAILABLE
from read_model.progress import CHANNEL
from telemetry.logs import get_logger

FALLBACK_POLL = 2.0  # seconds between polls without a notification while a request waits; notifications are the rule
MISSING_POLL = 0.1  # seconds between polls after one found progress that no notification reported, until one arrives
LISTENER_CHECK = 10.0  # seconds between checks of the listening session; a dead session would stay silent for ever
REPLICA_POLL = 0.02  # seconds between polls of a replica, which sends no notification when it has replayed a commit


class Progress:
    """How far the read model is. It is read again on each notification while a request or a stream needs it.

    `listen_url`: the primary, because only the primary notifies. `pool_of()`: the pool that queries use. `on_replica`:
    that pool connects to a replica of the primary.
    """

    def __init__(
        self, listen_url: Url, pool_of: Callable[[], asyncpg.Pool], topic: str, *, on_replica: bool = False
    ) -> None:
        self._listen_url, self._pool_of, self._topic = listen_url, pool_of, topic
        self._on_replica = on_replica
        self._state = UNKNOWN_STATE
        self._watchers = 0
        self._notifications_missing = False  # the read model advances without notifications
        self._notified = asyncio.Event()
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Listens for notifications and follows the read model until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen_for_ever())
            tasks.create_task(self._refresh_on_notification())

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While the body runs, each notification triggers a read of the progress."""
        self._watchers += 1
        if self._on_replica:
            self._notified.set()  # start polling the replica
        try:
            yield
        finally:
            self._watchers -= 1

    def next_advance(self) -> asyncio.Event:
        """Returns an event that is set when the read model has advanced. Get it before you read the progress."""
        return self._moved

    def discard(self) -> None:
        """Discards the known progress: the database may have been restored to an older state, or be another one."""
        self._state = UNKNOWN_STATE

    async def refresh(self) -> ReadModelState:
        """Reads the progress from the database and returns it."""
        self._update(await read_model_state(self._pool_of(), self._topic))
        return self._state

    async def wait_for(self, positions: Iterable[Position], seconds: float) -> list[Position]:
        """Waits until the read model has passed all positions.

        On the primary, the last known progress is enough, because the session that answers checks again. A replica may
        fall behind or be exchanged for another, so each call reads its progress.

        Args:
            positions: the positions to wait for.
            seconds: the longest wait; 0: read the progress once.

        Returns:
            The positions that are not passed in time; empty if all are.
        """
        behind = not_passed(self._state.at, positions)
        if not behind and not self._on_replica:
            return []
        with self.watching():
            try:
                async with asyncio.timeout(seconds or None):  # with 0 seconds, the loop ends after one read
                    while True:
                        moved = self._moved
                        behind = not_passed((await self.refresh()).at, positions)
                        if not behind or not seconds:
                            return behind
                        await moved.wait()
            except TimeoutError:
                return behind

    def _update(self, found: ReadModelState) -> None:
        if found != self._state:
            self._state = found
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()

    async def _refresh_on_notification(self) -> None:
        log = get_logger("query-side")
        while True:
            notified = await self._notified_within(self._poll_interval())
            moved = self._moved
            if self._watchers:
                try:
                    await self.refresh()
                    self._notifications_missing = not notified and (self._notifications_missing or moved.is_set())
                except DATABASE_UNAVAILABLE as error:
                    log.warning("progress_unknown", error=type(error).__name__)
                    await asyncio.sleep(REPLICA_POLL)

    def _poll_interval(self) -> float:
        if self._on_replica and self._watchers:
            return REPLICA_POLL
        return MISSING_POLL if self._notifications_missing and self._watchers else FALLBACK_POLL

    async def _notified_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._notified.wait()
        except TimeoutError:
            return False
        self._notified.clear()
        return True

    async def _listen_for_ever(self) -> None:
        async for attempt in stamina.retry_context(on=DATABASE_UNAVAILABLE, attempts=None, timeout=None, wait_max=1.0):
            with attempt:
                await self._listen()

    async def _listen(self) -> None:
        """Listens until the session is lost, then raises the error that ended it."""
        connection = await connect(self._listen_url, "footfall-query-side listener", query_timeout=CONNECT_TIMEOUT)
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _connection: lost.set())
            await connection.add_listener(CHANNEL, lambda *_: self._notified.set())
            self._notified.set()  # a notification may have been sent before we listened
            while not lost.is_set():
                try:
                    async with asyncio.timeout(LISTENER_CHECK):
                        await lost.wait()
                except TimeoutError:
                    await connection.execute("SELECT 1")
            raise asyncpg.ConnectionDoesNotExistError("the listening session was lost")
        finally:
            self.discard()  # a server that crashed may come back without the last commits that we saw
            connection.terminate()
