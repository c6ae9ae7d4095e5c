"""How this process learns that the read model moved: one session that listens, and one look for everybody who waits."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import asyncpg
import stamina

from query_side.log_positions.positions import UNSEEN, Position, Stand, missing, stands
from read_model.connecting.away import AWAY
from read_model.connecting.pool import CONNECT_TIMEOUT, connect
from read_model.progress import CHANNEL
from telemetry.logs import get_logger

FALLBACK = 2.0  # seconds between looks while somebody waits and nothing is heard; notifications are the rule
UNHEARD = 0.1  # seconds between looks from when one finds what was not told, until something is told again
LISTENER_CHECK = 10.0  # seconds; a session gone silent would hear nothing for ever
REPLICA_POLL = 0.02  # seconds between looks at a replica, which tells nobody when it has replayed a commit


class Progress:
    """Where the read model stands, read anew on each notification while anybody wants to know.

    `listen_url`: the primary, for only it notifies. `pool_of()`: where queries read; `on_replica` says that this is
    another server, which follows the primary.
    """

    def __init__(
        self, listen_url: str, pool_of: Callable[[], asyncpg.Pool], topic: str, *, on_replica: bool = False
    ) -> None:
        self._listen_url, self._pool_of, self._topic = listen_url, pool_of, topic
        self._on_replica = on_replica
        self._stands = UNSEEN
        self._interested = 0
        self._unheard = False  # the read model moves, and nobody tells
        self._told = asyncio.Event()
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen_for_ever())
            tasks.create_task(self._look_when_told())

    @contextmanager
    def interest(self) -> Iterator[None]:
        """For the body, each notification is followed by a look."""
        self._interested += 1
        if self._on_replica:
            self._told.set()  # from now on it is polled
        try:
            yield
        finally:
            self._interested -= 1

    def next_move(self) -> asyncio.Event:
        """Set at the next look that finds the read model moved. Take it before looking yourself."""
        return self._moved

    def forget(self) -> None:
        """What was seen is so no more: the database has come back older, or is another."""
        self._stands = UNSEEN

    async def now(self) -> Stand:
        """Where it stands, by a look of our own."""
        self._take(await stands(self._pool_of(), self._topic))
        return self._stands

    async def wait_for(self, positions: Iterable[Position], seconds: float) -> list[Position]:
        """Returns once the positions are passed, or the time is over: then those that are not.

        The last look will do to let a query through on the primary: the session that answers looks again. On a
        replica, which may fall behind or be another one, each answer is looked up.
        """
        behind = missing(self._stands.at, positions)
        if not behind and not self._on_replica:
            return []
        with self.interest():
            try:
                async with asyncio.timeout(seconds or None):  # without a wait: one look
                    while True:
                        moved = self._moved
                        behind = missing((await self.now()).at, positions)
                        if not behind or not seconds:
                            return behind
                        await moved.wait()
            except TimeoutError:
                return behind

    def _take(self, found: Stand) -> None:
        if found != self._stands:
            self._stands = found
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()

    async def _look_when_told(self) -> None:
        log = get_logger("query-side")
        while True:
            told = await self._told_within(self._patience())
            moved = self._moved
            if self._interested:
                try:
                    await self.now()
                    self._unheard = not told and (self._unheard or moved.is_set())
                except AWAY as error:
                    log.warning("progress_unknown", error=type(error).__name__)
                    await asyncio.sleep(REPLICA_POLL)

    def _patience(self) -> float:
        if self._on_replica and self._interested:
            return REPLICA_POLL
        return UNHEARD if self._unheard and self._interested else FALLBACK

    async def _told_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._told.wait()
        except TimeoutError:
            return False
        self._told.clear()
        return True

    async def _listen_for_ever(self) -> None:
        async for attempt in stamina.retry_context(on=AWAY, attempts=None, timeout=None, wait_max=1.0):
            with attempt:
                await self._listen()

    async def _listen(self) -> None:
        """Hears until the session is lost; then raises what it was lost to."""
        connection = await connect(self._listen_url, "footfall-query-side listener", query_timeout=CONNECT_TIMEOUT)
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _connection: lost.set())
            await connection.add_listener(CHANNEL, lambda *_: self._told.set())
            self._told.set()  # for what was said before we listened
            while not lost.is_set():
                try:
                    async with asyncio.timeout(LISTENER_CHECK):
                        await lost.wait()
                except TimeoutError:
                    await connection.execute("SELECT 1")
            raise asyncpg.ConnectionDoesNotExistError("the listening session was lost")
        finally:
            self.forget()  # a server that crashed may come back without what we saw last
            connection.terminate()
