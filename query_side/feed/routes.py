"""The hot routes of the log: `/events/feed` and `/events/stream`."""

from collections.abc import Callable

import asyncpg

from query_side.api.asking import principal_of, tenant_of
from query_side.api.parameters import Parameters
from query_side.api.pending_bytes import WaitingBytes
from query_side.api.responses import JSON, guarded
from query_side.events.formats import json_array
from query_side.feed.feed_cursors import cursor_of
from query_side.feed.pages import read_bounded
from query_side.feed.start_position import BEGINNING, start_position
from query_side.feed.stream import Streams
from query_side.log_positions.cursors import Cursors
from web.asgi import App, Receive, Scope, Send

FEED = "/events/feed"
STREAM = "/events/stream"
MAX_LIMIT = 1_000  # events in one page
DEFAULT_LIMIT = 100


class FeedRoutes:
    """The routes of the feed in pages and as a stream."""

    def __init__(
        self,
        pool_of: Callable[[], asyncpg.Pool],
        cursors_of: Callable[[], Cursors],
        topic: str,
        streams: Streams,
        waiting: WaitingBytes,
    ) -> None:
        self._waiting = waiting
        self._pool_of, self._cursors_of, self._topic = pool_of, cursors_of, topic
        self._streams = streams

    def raw_routes(self) -> dict[str, App]:
        """Returns the routes, by path."""
        return {FEED: guarded(self.feed), STREAM: guarded(self._streams.stream)}

    async def feed(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answers one page of the feed.

        The header `Footfall-Cursor` has the cursor to continue from, now or later. `Link: rel="next"` is there if more
        events are already available.
        """
        parameters = Parameters(scope["query_string"], ("since", "limit"))
        limit = parameters.number("limit", MAX_LIMIT) or DEFAULT_LIMIT
        parameters.check()
        tenant_id = tenant_of(scope)
        cursors = self._cursors_of().of(tenant_id)
        since = await start_position(self._pool_of(), cursors, self._topic, parameters, BEGINNING)
        page = await read_bounded(self._pool_of(), tenant_id, self._topic, since, limit)
        cursor = cursor_of(cursors, self._topic, page.end, page.history.tag).encode()
        headers = [(b"footfall-cursor", cursor)]
        if page.more:
            headers.append((b"link", b'<%b?since=%b&limit=%d>; rel="next"' % (FEED.encode(), cursor, limit)))
        body = json_array(page.events())
        del page  # free its memory: the body may wait long for a slow client
        await self._waiting.respond(send, principal_of(scope), 200, body, JSON, *headers)
