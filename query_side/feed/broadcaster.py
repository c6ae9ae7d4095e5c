"""Reads new events once for all subscribers: it renders each event once, and each subscriber has a queue."""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

import asyncpg
import msgspec

from query_side.events.event_lines import one_line
from query_side.feed.feed_cursors import cursor_of
from query_side.feed.pages import LogEntry, Page, read_page_of_all
from query_side.log_positions.cursors import Cursors
from query_side.log_positions.positions import ReadModelState
from query_side.log_positions.progress import Progress
from query_side.log_positions.served_history import AnotherHistoryError
from read_model.connecting.unavailable import DATABASE_UNAVAILABLE
from telemetry.logs import get_logger
from telemetry.metrics import STREAMS_DROPPED, STREAMS_OPEN

PAGE_LIMIT = 1_000  # log entries in one read
MAX_QUEUED_BYTES = 2_097_152  # in one subscriber's queue, mostly shared with others; a fuller queue ends the stream
MAX_QUEUED = 1_000  # pieces in one subscriber's queue, because each piece costs memory beside its bytes
PATIENCE = 1.0  # seconds that the next read waits for subscribers to empty their queues
RETRY = 0.5  # seconds before the next attempt while the database is unavailable

End = Literal["slow", "shutdown", "history", "expired", "credentials", "unchecked"]


class Filter(msgspec.Struct, frozen=True):
    """Selects events of one tenant: all given conditions must match. An empty tuple of types means all types."""

    tenant_id: str
    user_id: str | None = None
    event_types: tuple[str, ...] = ()
    product_id: str | None = None

    def matches(self, entry: LogEntry) -> bool:
        """Returns whether an event matches the filter."""
        return (
            entry.tenant_id == self.tenant_id
            and (self.user_id is None or entry.user_id == self.user_id)
            and (not self.event_types or entry.event_type in self.event_types)
            and (self.product_id is None or entry.product_id == self.product_id)
        )


class Subscriber:
    """One client of a stream: its queue, and why its stream ended, if it did."""

    def __init__(self, wants: Filter) -> None:
        self.wants = wants
        self.ended: End | None = None
        self.drained = asyncio.Event()  # set while the queue is empty
        self.drained.set()
        self.is_late = False  # whether it let others wait, and has not emptied its queue since
        self._queue: deque[bytes] = deque()
        self._queued = 0  # bytes
        self._available = asyncio.Event()

    def offer(self, piece: bytes) -> bool:
        """Queues one piece. If the queue is too full, ends the stream as slow and returns False."""
        if self._queue and (self._queued + len(piece) > MAX_QUEUED_BYTES or len(self._queue) >= MAX_QUEUED):
            self.end("slow")
            return False
        self._queue.append(piece)
        self._queued += len(piece)
        self._available.set()
        self.drained.clear()
        return True

    def end(self, why: End) -> None:
        """Ends the stream.

        For a slow client it drops the queue; the client gets these events after it reconnects. Whoever has lost the
        right to them gets nothing that is queued, either.
        """
        if self.ended is None:
            self.ended = why
            if why in ("slow", "credentials", "unchecked"):
                self._queue.clear()
                self._queued = 0
            self.drained.set()
            self._available.set()

    async def next_piece(self) -> bytes:
        """Waits for the next piece and returns it; returns b"" once the stream has ended and the queue is empty."""
        while not self._queue:
            self.is_late = False
            self.drained.set()
            if self.ended is not None:
                return b""
            self._available.clear()
            await self._available.wait()
        piece = self._queue.popleft()
        self._queued -= len(piece)
        return piece


class Broadcaster:
    """Reads the log as the read model advances, while there are subscribers, and queues events for them."""

    def __init__(self, progress: Progress, pool_of: Callable[[], asyncpg.Pool], topic: str, heartbeat: float) -> None:
        self._progress, self._pool_of, self._topic = progress, pool_of, topic
        self._heartbeat = heartbeat  # seconds
        self._subscribers: dict[Filter, set[Subscriber]] = {}
        self._subscribed = asyncio.Event()
        self._moved = asyncio.Event()
        self._readers: Counter[str] = Counter()  # by tenant, how many keep it reading
        self.at: ReadModelState | None = None  # how far it has read; None while there are no subscribers

    async def run(self, cursors: Cursors) -> None:
        """Reads the log and sends heartbeats until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_for_ever(cursors))
            tasks.create_task(self._send_heartbeats(cursors))

    async def position(self) -> ReadModelState:
        """Waits until the broadcaster has a position, and returns it. Call it inside `kept_reading`."""
        while self.at is None:
            await self._moved.wait()
        return self.at

    async def next_advance(self) -> None:
        """Waits until the broadcaster has advanced."""
        moved = self._moved
        await moved.wait()

    def next_commit(self) -> asyncio.Event:
        """Returns an event that is set once the read model advances. Get it before you read the log."""
        return self._progress.next_advance()

    @contextlib.contextmanager
    def kept_reading(self, tenant_id: str) -> Iterator[None]:
        """Keeps the broadcaster reading events of this tenant while the body runs."""
        self._count_reader(tenant_id, 1)
        self._subscribed.set()
        try:
            yield
        finally:
            self._count_reader(tenant_id, -1)

    def _count_reader(self, tenant_id: str, more: int) -> None:
        self._readers[tenant_id] += more
        if not self._readers[tenant_id]:
            del self._readers[tenant_id]
        STREAMS_OPEN.set(self._readers.total())

    def subscribe(self, subscriber: Subscriber) -> ReadModelState:
        """Adds a subscriber. Returns the position from which it receives events."""
        assert self.at is not None, "wait for `position` first"
        self._subscribers.setdefault(subscriber.wants, set()).add(subscriber)
        return self.at

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Removes a subscriber."""
        subscribers = self._subscribers.get(subscriber.wants, set())
        subscribers.discard(subscriber)
        if not subscribers:
            self._subscribers.pop(subscriber.wants, None)

    def _all(self) -> list[Subscriber]:
        return [subscriber for subscribers in self._subscribers.values() for subscriber in subscribers]

    async def _read_for_ever(self, cursors: Cursors) -> None:
        while True:
            if not self._readers:
                self.at = None  # nobody needs the events that arrive while there are no subscribers
                self._subscribed.clear()
                await self._subscribed.wait()
            try:
                with self._progress.watching():
                    await self._read_while_subscribed(cursors)
            except DATABASE_UNAVAILABLE as error:
                get_logger("query-side").warning("tail_interrupted", error=type(error).__name__)
                await asyncio.sleep(RETRY)

    async def _read_while_subscribed(self, cursors: Cursors) -> None:
        """Reads new log entries until there are no subscribers."""
        if self.at is None:
            self._set_position(await self._progress.refresh())
        while self._readers:
            moved = self._progress.next_advance()
            assert self.at is not None
            since, tenants = self.at.reader_position(), list(self._readers)
            try:
                page = await read_page_of_all(self._pool_of(), tenants, self._topic, since, PAGE_LIMIT)
            except AnotherHistoryError:
                self._switch_history(await self._progress.refresh())
                continue
            if not self._readers.keys() <= set(tenants):  # a tenant came meanwhile, and the page lacks its events
                continue
            if page.entries:
                self._deliver(page, cursors)
            self._set_position(ReadModelState(page.end, page.history))
            if page.more:
                await self._wait_until_drained()
            else:
                await moved.wait()

    def _switch_history(self, state: ReadModelState) -> None:
        """Ends all streams, because the read model serves another history; clients must choose a new start position."""
        for subscriber in self._all():
            subscriber.end("history")
            self.unsubscribe(subscriber)
        self._set_position(state)

    async def _wait_until_drained(self) -> None:
        """Waits for the queues to empty during a burst, so that only slow clients are dropped.

        It waits for a client that is late no more until it has emptied its queue: all others would be as late.
        """
        waited_for = [subscriber for subscriber in self._all() if not subscriber.is_late]
        try:
            async with asyncio.timeout(PATIENCE):
                for subscriber in waited_for:
                    await subscriber.drained.wait()
        except TimeoutError:
            for subscriber in waited_for:
                subscriber.is_late = not subscriber.drained.is_set()

    def _set_position(self, to: ReadModelState) -> None:
        if to != self.at:
            self.at = to
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()

    def _deliver(self, page: Page, cursors: Cursors) -> None:
        tag = page.history.tag
        # Each by tenant, and by tenant and user.
        of: dict[tuple[str | None, str | None], list[tuple[LogEntry, bytes]]] = {}
        for entry, at in page.walk():
            cursor = cursor_of(cursors.of(entry.tenant_id or ""), self._topic, at, tag)
            rendered = (entry, sse_event(entry, cursor))
            of.setdefault((entry.tenant_id, None), []).append(rendered)
            of.setdefault((entry.tenant_id, entry.user_id), []).append(rendered)
        for wants, subscribers in [*self._subscribers.items()] if of else []:
            found = of.get((wants.tenant_id, wants.user_id), [])
            pieces = b"".join(piece for entry, piece in found if wants.matches(entry))
            if pieces:
                self._offer(subscribers, pieces)

    def _offer(self, subscribers: Iterable[Subscriber], piece: bytes) -> None:
        for subscriber in [*subscribers]:
            if not subscriber.offer(piece):
                self.unsubscribe(subscriber)
                STREAMS_DROPPED.inc()

    async def _send_heartbeats(self, cursors: Cursors) -> None:
        """Sends each subscriber a heartbeat with the current cursor, every `heartbeat` seconds."""
        while True:
            await asyncio.sleep(self._heartbeat)
            if self.at is not None:
                for wants, subscribers in [*self._subscribers.items()]:
                    cursor = cursor_of(cursors.of(wants.tenant_id), self._topic, self.at.at, self.at.history.tag)
                    self._offer(subscribers, heartbeat_comment(cursor))


def sse_event(entry: LogEntry, cursor: str) -> bytes:
    """Renders one log entry as a Server-Sent Event, with its JSON on one line."""
    return f"id: {cursor}\nevent: {entry.event_type}\ndata: {one_line(entry.event or '')}\n\n".encode()


def heartbeat_comment(cursor: str) -> bytes:
    """Renders a heartbeat: a comment and an id without data. The client stores the id and dispatches no event."""
    return f": heartbeat\nid: {cursor}\n\n".encode()


def end_event(why: End) -> bytes:
    """Renders the last event of a stream that we end. It has no id, so the client resumes after the last real event."""
    reasons: Mapping[End, str] = {
        "slow": "Client too slow; reconnect with Last-Event-ID.",
        "expired": "Events after this id were deleted because of their age. Start again with since=beginning.",
        "history": "The log was replaced, so this id is no longer valid. Start again with since=beginning.",
        "shutdown": "The server is shutting down; reconnect with Last-Event-ID.",
        "credentials": "The credentials that began this stream are not accepted any more.",
        "unchecked": "The credentials that began this stream cannot be checked now; reconnect with Last-Event-ID.",
    }
    data = msgspec.json.encode({"reason": why, "message": reasons[why]})
    return b"event: end\ndata: " + data + b"\n\n"
