"""Composes what follows the read model as it advances: the feed, streams, waits for positions and event statuses."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import asyncpg
import stamina

from query_side.api.pending_bytes import WaitingBytes
from query_side.feed.broadcaster import Broadcaster
from query_side.feed.event_status import Statuses
from query_side.feed.routes import FeedRoutes
from query_side.feed.stream import Streams
from query_side.log_positions.bounded_waits import MAX_WAITING, BoundedWaits
from query_side.log_positions.cursors import Cursors
from query_side.log_positions.progress import Progress
from query_side.log_positions.read_your_writes import ReadYourWrites
from query_side.settings import QuerySettings
from web.asgi import App
from web.policies.decisions import RequestPolicy
from web.policies.limits.shares import Share
from web.tenants.position_tokens import PositionTokens


class LiveReads:
    """The routes, the read-your-writes policy for every other query, and the background tasks."""

    def __init__(
        self,
        pool_of: Callable[[], asyncpg.Pool],
        cursors_of: Callable[[], Cursors],
        tokens: PositionTokens,
        settings: QuerySettings,
        waiting: WaitingBytes,
        event_types: Sequence[str],
        identity: RequestPolicy,
    ) -> None:
        topic, heartbeat = settings.kafka_topic, settings.stream_heartbeat_ms / 1000
        self._cursors_of, self._identity = cursors_of, identity
        self._loop: asyncio.AbstractEventLoop | None = None
        self._progress = Progress(settings.database_url, pool_of, topic, on_replica=settings.on_replica())
        self._broadcaster = Broadcaster(self._progress, pool_of, topic, heartbeat)
        self._streams = Streams(
            self._broadcaster,
            pool_of,
            cursors_of,
            topic,
            Share("streams", settings.max_streams, settings.principal_share_percent),
            heartbeat,
            event_types,
        )
        fresh = Share("reads that wait for a position", MAX_WAITING, settings.principal_share_percent)
        waits = BoundedWaits(self._progress, fresh)
        read_your_writes = ReadYourWrites(self._progress, pool_of, topic, tokens, waits)
        self.policy, self.confirm = read_your_writes.policy, read_your_writes.confirm
        self._feed = FeedRoutes(pool_of, cursors_of, topic, self._streams, waiting)
        self.statuses = Statuses(waits, pool_of, topic, settings.query_timeout_ms / 1000)

    def raw_routes(self) -> dict[str, App]:
        """Returns the raw ASGI routes of the feed and the stream, by path."""
        return self._feed.raw_routes()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the background tasks while the body runs. The pool and the cursors' key must be available."""
        self._loop = asyncio.get_running_loop()
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def end_streams(self) -> None:
        """Ends every stream, so that the process can shut down. A signal handler may call it."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._streams.end_all)

    async def _run(self) -> None:
        # Restart the tasks after any unexpected error: without them, streams stop and waits for positions fail.
        async for attempt in stamina.retry_context(on=Exception, attempts=None, timeout=None, wait_max=2.0):
            with attempt:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._progress.run())
                    tasks.create_task(self._broadcaster.run(self._cursors_of()))
                    tasks.create_task(self._streams.watch_credentials(self._identity))
