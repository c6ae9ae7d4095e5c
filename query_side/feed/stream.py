"""`GET /events/stream`: what comes, as Server-Sent Events; before that, what a client missed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg

from query_side.api.parameters import Parameters
from query_side.api.responses import RefusedError, header, until_disconnect
from query_side.feed.broadcaster import RETRY, Broadcaster, Filter, Subscriber, heartbeat_of, last_words, piece_of
from query_side.feed.pages import Page, cursor_of, place_of, read_page
from query_side.feed.start_position import NOW, beginning_of
from query_side.log_positions.cursors import Cursors
from query_side.log_positions.positions import Place, Stand, Vector, passes, stands
from query_side.log_positions.served_history import UNTAGGED, AnotherHistoryError, check
from read_model.connecting.away import AWAY
from telemetry.logs import get_logger
from web.asgi import Receive, Scope, Send

CATCH_UP_LIMIT = 500  # entries in one reading for one client
FIRST_CATCH_UP = 10  # entries in the first, when it is not known how large they are
CATCH_UP_BYTES = 65_536  # of the events in one reading: so much may wait for a client that does not read
MAX_CATCHING_UP = 8  # clients that read for themselves at once; others wait for their turn
SEND_SIZE = 65_536  # bytes that are sent at once: a whole burst is more than a slow client can take in time
SEND_TIMEOUT = 30.0  # seconds in which a client must take something of what it is sent
EVENT_TYPES = ("LOGIN", "LOGOUT", "PRODUCT_VIEW")
LAST_ID = "lastEventId"  # event-source-polyfill's way to say `Last-Event-ID`
NOTHING = {"type": "http.response.body", "body": b"", "more_body": True}
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),  # to proxies: pass each event on at once
]


class Streams:
    """The streams of one process: at most `most`, each a client of one tail."""

    def __init__(
        self,
        tail: Broadcaster,
        pool_of: Callable[[], asyncpg.Pool],
        cursors_of: Callable[[], Cursors],
        topic: str,
        most: int,
        heartbeat: float,
    ) -> None:
        self._broadcaster, self._pool_of, self._cursors_of, self._topic = tail, pool_of, cursors_of, topic
        self._most, self._open = most, 0
        self._heartbeat = heartbeat
        self._catching_up = asyncio.Semaphore(MAX_CATCHING_UP)
        self._subscribers: set[Subscriber] = set()
        self._ending = False

    def end_all(self) -> None:
        """Ends every stream, for the process is about to; new ones are refused."""
        self._ending = True
        for subscriber in [*self._subscribers]:
            subscriber.end("shutdown")

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Events from `Last-Event-ID`, else from `since`, else from now on, until either side ends it."""
        if self._ending or self._open >= self._most:
            raise RefusedError(503, "Too many streams are open; try again shortly.", (b"retry-after", b"5"))
        wants, since = await self._asked(scope)
        if since is not None and since.tag is not None:
            check(since.tag, (await stands(self._pool_of(), self._topic)).history)
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await send({"type": "http.response.body", "body": b""})
            return
        subscriber = Subscriber(wants)
        self._open += 1
        self._subscribers.add(subscriber)
        gone = asyncio.create_task(until_disconnect(receive))
        work = asyncio.create_task(self._follow(subscriber, since, send))
        try:
            with self._broadcaster.kept_awake():
                await asyncio.wait([gone, work], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._broadcaster.leave(subscriber)
            self._subscribers.discard(subscriber)
            self._open -= 1
            gone.cancel()
            work.cancel()
            await asyncio.wait([work])
        if not work.cancelled():
            work.result()

    async def _asked(self, scope: Scope) -> tuple[Filter, Place | None]:
        parameters = Parameters(scope["query_string"], ("since", "userId", "productId", LAST_ID), ("eventType",))
        wants = Filter(
            parameters.text("userId"), parameters.choices("eventType", EVENT_TYPES), parameters.text("productId")
        )
        parameters.check()
        last = (header(scope, b"last-event-id") or b"").decode("latin-1") or parameters.raw(LAST_ID)
        if last:
            found = place_of(self._cursors_of(), self._topic, last)
            if found is None:
                raise RefusedError(400, errors=["Last-Event-ID is no cursor of this feed."])
            return wants, found
        if parameters.raw("since") in (None, NOW):
            return wants, None
        return wants, await beginning_of(self._pool_of(), self._cursors_of(), self._topic, parameters, NOW)

    async def _follow(self, subscriber: Subscriber, since: Place | None, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        try:
            async for piece in self._pieces(subscriber, since):
                for start in range(0, len(piece), SEND_SIZE):
                    part = piece[start : start + SEND_SIZE]
                    async with asyncio.timeout(SEND_TIMEOUT):
                        await send({"type": "http.response.body", "body": part, "more_body": True})
                async with asyncio.timeout(SEND_TIMEOUT):
                    await send(NOTHING)  # once most of it is taken: nothing more is read from the database before
            if subscriber.ended is not None:
                async with asyncio.timeout(SEND_TIMEOUT):
                    await send({"type": "http.response.body", "body": last_words(subscriber.ended)})
        except TimeoutError:  # it takes nothing, not even the reason why it is dropped
            get_logger("query-side").info("stream_client_stuck", seconds=SEND_TIMEOUT)

    async def _pieces(self, subscriber: Subscriber, since: Place | None) -> AsyncIterator[bytes]:
        await self._broadcaster.position()
        if since is None:
            yield first_words(self._cursor(self._broadcaster.join(subscriber).place()))
        else:
            yield first_words(self._cursor(since))
            try:
                async for piece in self._missed(subscriber, since):
                    yield piece
            except AnotherHistoryError:
                subscriber.end("history")
        while piece := await subscriber.take():
            yield piece

    async def _missed(self, subscriber: Subscriber, since: Place) -> AsyncIterator[bytes]:
        """What lies between a cursor and the tail. The client has joined the tail when this ends, without gap.

        First up to where the tail was; then, joined, what came in the meantime. No reading goes beyond the tail, so
        nothing that the tail will give is read here. A reading may end before it, though there is no more at once: a
        forced promotion has left the tail ahead of the generation that serves. Raises AnotherHistoryError.
        """
        (at, tag), limit = since, FIRST_CATCH_UP
        joined_at: Stand | None = None
        while subscriber.ended is None:
            tail = joined_at or await self._broadcaster.position()
            commits = self._broadcaster.next_commit()
            if tail.history.tag != UNTAGGED:  # it has yet to learn its topic's id; the reading below knows
                check(tag, tail.history)
            if not passes(tail.at, at):  # the client has read at another process, which is ahead of ours
                yield await self._beat_until(self._broadcaster.next_move(), Place(at, tag))
                continue
            try:
                page = await self._read(Place(at, tag), tail.at, limit)
            except AWAY:
                await asyncio.sleep(RETRY)
                yield heartbeat_of(self._cursor(Place(at, tag)))
                continue
            at, tag, more, limit = page.end, page.history.tag, page.more, next_limit(page)
            piece = self._rendered(page, subscriber.wants)
            del page  # while the client takes the piece, it is all that is kept
            yield piece
            if more:
                continue
            if not passes(at, tail.at):
                yield await self._beat_until(commits.wait(), Place(at, tag))
                continue
            if joined_at is not None:
                return
            joined_at = self._broadcaster.join(subscriber)

    async def _read(self, at: Place, tail: Vector, limit: int) -> Page:
        async with self._catching_up:
            page = await read_page(self._pool_of(), self._topic, at, limit, tail)
        return page.cut(CATCH_UP_BYTES)

    async def _beat_until(self, moved: Awaitable[object], at: Place) -> bytes:
        try:
            async with asyncio.timeout(self._heartbeat):
                await moved
        except TimeoutError:
            pass
        return heartbeat_of(self._cursor(at))

    def _rendered(self, page: Page, wants: Filter) -> bytes:
        tag = page.history.tag
        pieces = [piece_of(entry, self._cursor(Place(at, tag))) for entry, at in page.walk() if wants.takes(entry)]
        return b"".join(pieces) + heartbeat_of(self._cursor(Place(page.end, tag)))

    def _cursor(self, place: Place) -> str:
        tag = UNTAGGED if place.tag is None else place.tag
        return cursor_of(self._cursors_of(), self._topic, place.at, tag)


def first_words(cursor: str) -> bytes:
    """The first event: it has data, for not every client takes note of an id without (npm's eventsource does not)."""
    return f': begin\nretry: 2000\nid: {cursor}\nevent: begin\ndata: {{"cursor":"{cursor}"}}\n\n'.encode()


def next_limit(page: Page) -> int:
    """How many entries to read next, if they are as large as these."""
    return max(1, min(CATCH_UP_LIMIT, len(page.entries) * CATCH_UP_BYTES // max(page.size(), 1)))
