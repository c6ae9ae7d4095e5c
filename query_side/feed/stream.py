"""The route `GET /events/stream`: sends the events that a client missed, then new ones, as Server-Sent Events."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import asyncpg

from query_side.api.asking import principal_of, tenant_of
from query_side.api.parameters import Parameters
from query_side.api.responses import header, until_disconnect
from query_side.api.shares import Places, held
from query_side.feed.broadcaster import RETRY, Broadcaster, Filter, Subscriber, end_event, heartbeat_comment, sse_event
from query_side.feed.feed_cursors import cursor_of, position_of_cursor
from query_side.feed.pages import ForgottenError, Page, check_kept, read_page
from query_side.feed.start_position import NOW, start_position
from query_side.log_positions.cursors import Cursors
from query_side.log_positions.positions import (
    ProgressByPartition,
    ReaderPosition,
    ReadModelState,
    has_reached,
    read_model_state,
)
from query_side.log_positions.served_history import UNTAGGED, AnotherHistoryError, check
from read_model.connecting.unavailable import DATABASE_UNAVAILABLE
from telemetry.logs import get_logger
from web.asgi import Receive, Scope, Send
from web.policies.decisions import Admit, NeedsIO, Refuse, RefusedError, RequestPolicy
from web.policies.limits.shares import Share
from web.policies.passage import HEAD_KEY
from web.policies.request_head import RequestHead

CATCH_UP_LIMIT = 500  # entries in one read for one client
FIRST_CATCH_UP = 10  # entries in the first read, while the size of the events is unknown
CATCH_UP_BYTES = 65_536  # of events in one read: a client that does not receive holds this much memory
MAX_CATCHING_UP = 8  # clients that read from the database at once; others wait for their turn
SEND_SIZE = 65_536  # bytes that are sent at once: a slow client cannot receive a whole burst within SEND_TIMEOUT
SEND_TIMEOUT = 30.0  # seconds in which a client must receive at least a part of what was sent
CHECK_CREDENTIALS = 1.0  # seconds between two looks at the credentials of streams
BUSY = "Too many streams are open; try again shortly."
LAST_ID = "lastEventId"  # the parameter that event-source-polyfill sends instead of the header `Last-Event-ID`
NOTHING = {"type": "http.response.body", "body": b"", "more_body": True}
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),  # tells proxies to forward each event at once
]


class Streams:
    """The streams of one process: as many as there are places, all fed by one broadcaster."""

    def __init__(
        self,
        broadcaster: Broadcaster,
        pool_of: Callable[[], asyncpg.Pool],
        cursors_of: Callable[[], Cursors],
        topic: str,
        share: Share,
        heartbeat: float,
        event_types: Sequence[str],
    ) -> None:
        self._event_types = event_types
        self._broadcaster, self._pool_of, self._cursors_of, self._topic = broadcaster, pool_of, cursors_of, topic
        self._places, self._share = Places(share.places, BUSY), share
        self._heartbeat = heartbeat
        self._catching_up = asyncio.Semaphore(MAX_CATCHING_UP)
        self._subscribers: dict[Subscriber, RequestHead] = {}
        self._ending = False

    def end_all(self) -> None:
        """Ends every stream before the process shuts down, and refuses new streams."""
        self._ending = True
        for subscriber in [*self._subscribers]:
            subscriber.end("shutdown")

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Streams events from `Last-Event-ID`, else from `since`, else from now on, until one side ends the stream."""
        if self._ending:
            raise RefusedError(503, BUSY, (b"retry-after", b"5"))
        with self._places.one(), held(self._share, principal_of(scope)):
            await self._begun(scope, receive, send)

    async def _begun(self, scope: Scope, receive: Receive, send: Send) -> None:
        wants, since = await self._filter_and_start(scope)
        if since is not None and since.tag is not None:
            check(since.tag, (await read_model_state(self._pool_of(), self._topic)).history)
            await check_kept(self._pool_of(), wants.tenant_id, since)
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await send({"type": "http.response.body", "body": b""})
            return
        subscriber = Subscriber(wants)
        self._subscribers[subscriber] = scope[HEAD_KEY]
        await self._streamed(subscriber, since, receive, send)

    async def watch_credentials(self, identity: RequestPolicy) -> None:
        """Ends, for ever, the streams whose key was revoked, or whose token has expired, since they began.

        One whose credentials nobody can check now ends, too, with another reason: it may come back.
        """
        while True:
            await asyncio.sleep(CHECK_CREDENTIALS)
            for subscriber, head in [*self._subscribers.items()]:
                decision = identity(head)
                if isinstance(decision, NeedsIO):
                    decision = await decision.ask()
                if not isinstance(decision, Admit):
                    is_known = isinstance(decision, Refuse) and decision.status < 500
                    subscriber.end("credentials" if is_known else "unchecked")

    async def _streamed(
        self, subscriber: Subscriber, since: ReaderPosition | None, receive: Receive, send: Send
    ) -> None:
        if self._ending:  # since it was tested
            subscriber.end("shutdown")
        gone = asyncio.create_task(until_disconnect(receive))
        work = asyncio.create_task(self._send_events(subscriber, since, send))
        try:
            with self._broadcaster.kept_reading(subscriber.wants.tenant_id):
                await asyncio.wait([gone, work], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._broadcaster.unsubscribe(subscriber)
            del self._subscribers[subscriber]
            gone.cancel()
            work.cancel()
            await asyncio.wait([work])
        if not work.cancelled():
            work.result()

    async def _filter_and_start(self, scope: Scope) -> tuple[Filter, ReaderPosition | None]:
        parameters = Parameters(scope["query_string"], ("since", "userId", "productId", LAST_ID), ("eventType",))
        chosen = parameters.choices("eventType", self._event_types)
        tenant_id = tenant_of(scope)
        cursors = self._cursors_of().of(tenant_id)
        wants = Filter(tenant_id, parameters.text("userId"), chosen, parameters.text("productId"))
        parameters.check()
        last = (header(scope, b"last-event-id") or b"").decode("latin-1") or parameters.raw(LAST_ID)
        if last:
            found = position_of_cursor(cursors, self._topic, last)
            if found is None:
                raise RefusedError(400, errors=["Last-Event-ID is not a cursor of this feed."])
            return wants, found
        if parameters.raw("since") in (None, NOW):
            return wants, None
        return wants, await start_position(self._pool_of(), cursors, self._topic, parameters, NOW)

    async def _send_events(self, subscriber: Subscriber, since: ReaderPosition | None, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        try:
            async for piece in self._pieces(subscriber, since):
                for start in range(0, len(piece), SEND_SIZE):
                    part = piece[start : start + SEND_SIZE]
                    async with asyncio.timeout(SEND_TIMEOUT):
                        await send({"type": "http.response.body", "body": part, "more_body": True})
                async with asyncio.timeout(SEND_TIMEOUT):
                    await send(NOTHING)  # waits until the client has received most of it, before the next read
            if subscriber.ended is not None:
                async with asyncio.timeout(SEND_TIMEOUT):
                    await send({"type": "http.response.body", "body": end_event(subscriber.ended)})
        except TimeoutError:  # the client receives nothing, not even the reason for the end
            get_logger("query-side").info("stream_client_stuck", seconds=SEND_TIMEOUT)

    async def _pieces(self, subscriber: Subscriber, since: ReaderPosition | None) -> AsyncIterator[bytes]:
        await self._broadcaster.position()
        if since is None:
            start = self._broadcaster.subscribe(subscriber).reader_position()
            yield begin_event(self._cursor(subscriber, start))
        else:
            yield begin_event(self._cursor(subscriber, since))
            try:
                async for piece in self._catch_up(subscriber, since):
                    yield piece
            except AnotherHistoryError:
                subscriber.end("history")
            except ForgottenError:
                subscriber.end("expired")
        while piece := await subscriber.next_piece():
            yield piece

    async def _catch_up(self, subscriber: Subscriber, since: ReaderPosition) -> AsyncIterator[bytes]:
        """Yields the events between a cursor and the broadcaster's position, then subscribes, without a gap.

        It first reads up to the broadcaster's position. Then it subscribes, and reads the events that arrived in the
        meantime. No read goes beyond the broadcaster's position, so no event is sent twice. A read may end before that
        position although no more entries are available: after a forced promotion, the broadcaster may be ahead of the
        generation that now serves. Raises AnotherHistoryError.
        """
        (at, tag), limit = since, FIRST_CATCH_UP
        joined_at: ReadModelState | None = None
        while subscriber.ended is None:
            tail = joined_at or await self._broadcaster.position()
            commits = self._broadcaster.next_commit()
            if tail.history.tag != UNTAGGED:  # else it does not know the topic's id yet; the read below does
                check(tag, tail.history)
            if not has_reached(tail.at, at):  # the client has read from another process, which is ahead of ours
                yield await self._heartbeat_after(subscriber, self._broadcaster.next_advance(), ReaderPosition(at, tag))
                continue
            try:
                page = await self._read(subscriber, ReaderPosition(at, tag), tail.at, limit)
            except DATABASE_UNAVAILABLE:
                await asyncio.sleep(RETRY)
                yield heartbeat_comment(self._cursor(subscriber, ReaderPosition(at, tag)))
                continue
            at, tag, more, limit = page.end, page.history.tag, page.more, next_limit(page)
            piece = self._rendered(page, subscriber)
            del page  # free its memory: only the piece is kept while the client receives it
            yield piece
            if more:
                continue
            if not has_reached(at, tail.at):
                yield await self._heartbeat_after(subscriber, commits.wait(), ReaderPosition(at, tag))
                continue
            if joined_at is not None:
                return
            joined_at = self._broadcaster.subscribe(subscriber)

    async def _read(self, subscriber: Subscriber, at: ReaderPosition, tail: ProgressByPartition, limit: int) -> Page:
        async with self._catching_up:
            page = await read_page(self._pool_of(), subscriber.wants.tenant_id, self._topic, at, limit, tail)
        return page.cut(CATCH_UP_BYTES)

    async def _heartbeat_after(self, subscriber: Subscriber, moved: Awaitable[object], at: ReaderPosition) -> bytes:
        try:
            async with asyncio.timeout(self._heartbeat):
                await moved
        except TimeoutError:
            pass
        return heartbeat_comment(self._cursor(subscriber, at))

    def _rendered(self, page: Page, subscriber: Subscriber) -> bytes:
        tag = page.history.tag
        pieces = [
            sse_event(entry, self._cursor(subscriber, ReaderPosition(at, tag)))
            for entry, at in page.walk()
            if subscriber.wants.matches(entry)
        ]
        return b"".join(pieces) + heartbeat_comment(self._cursor(subscriber, ReaderPosition(page.end, tag)))

    def _cursor(self, subscriber: Subscriber, place: ReaderPosition) -> str:
        tag = UNTAGGED if place.tag is None else place.tag
        return cursor_of(self._cursors_of().of(subscriber.wants.tenant_id), self._topic, place.at, tag)


def begin_event(cursor: str) -> bytes:
    """Renders the first event. It has data, because some clients ignore an id without data (npm's eventsource)."""
    return f': begin\nretry: 2000\nid: {cursor}\nevent: begin\ndata: {{"cursor":"{cursor}"}}\n\n'.encode()


def next_limit(page: Page) -> int:
    """Returns how many entries to read next, assuming that they are as large as those of this page."""
    return max(1, min(CATCH_UP_LIMIT, len(page.entries) * CATCH_UP_BYTES // max(page.size(), 1)))
