"""Reads the end of the log once for all subscribers: one reader, one rendering of each event, a queue for each."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

import asyncpg
import msgspec

from query_side.events.event_lines import one_line
from query_side.feed.pages import LogEntry, Page, cursor_of, read_page
from query_side.log_positions.cursors import Cursors
from query_side.log_positions.positions import Stand
from query_side.log_positions.progress import Progress
from query_side.log_positions.served_history import AnotherHistoryError
from read_model.connecting.away import AWAY
from telemetry.logs import get_logger
from telemetry.metrics import STREAMS_DROPPED, STREAMS_OPEN

PAGE_LIMIT = 1_000  # entries in one reading
MAX_QUEUED_BYTES = 2_097_152  # that wait for one subscriber, and mostly for others too; beyond, it is dropped
MAX_QUEUED = 1_000  # pieces that wait for one subscriber: they have a size of their own
PATIENCE = 1.0  # seconds that a burst waits for clients to take what they were given
RETRY = 0.5  # seconds until the next try while the database is away

End = Literal["slow", "shutdown", "history"]


class Filter(msgspec.Struct, frozen=True):
    """Which events a client wants: all that are named must match; an empty tuple of types means all."""

    user_id: str | None = None
    event_types: tuple[str, ...] = ()
    product_id: str | None = None

    def takes(self, entry: LogEntry) -> bool:
        """Whether an event is wanted."""
        return (
            (self.user_id is None or entry.user_id == self.user_id)
            and (not self.event_types or entry.event_type in self.event_types)
            and (self.product_id is None or entry.product_id == self.product_id)
        )


class Subscriber:
    """One follower: what waits for it, in order, and why it was ended, if it was."""

    def __init__(self, wants: Filter) -> None:
        self.wants = wants
        self.ended: End | None = None
        self.taken = asyncio.Event()  # set while nothing waits
        self.taken.set()
        self._queue: deque[bytes] = deque()
        self._queued = 0  # bytes
        self._something = asyncio.Event()

    def offer(self, piece: bytes) -> bool:
        """Queues one piece; False, and the client is ended as slow, when too much waits already."""
        if self._queue and (self._queued + len(piece) > MAX_QUEUED_BYTES or len(self._queue) >= MAX_QUEUED):
            self.end("slow")
            return False
        self._queue.append(piece)
        self._queued += len(piece)
        self._something.set()
        self.taken.clear()
        return True

    def end(self, why: End) -> None:
        """Gives it nothing more. What a slow client has not taken is dropped: it will ask for it again."""
        if self.ended is None:
            self.ended = why
            if why == "slow":
                self._queue.clear()
                self._queued = 0
            self.taken.set()
            self._something.set()

    async def take(self) -> bytes:
        """The next piece, which others may have too; empty once there is none and it was ended."""
        while not self._queue:
            self.taken.set()
            if self.ended is not None:
                return b""
            self._something.clear()
            await self._something.wait()
        piece = self._queue.popleft()
        self._queued -= len(piece)
        return piece


class Broadcaster:
    """Follows the log from where the read model stood, while anybody follows us."""

    def __init__(self, progress: Progress, pool_of: Callable[[], asyncpg.Pool], topic: str, heartbeat: float) -> None:
        self._progress, self._pool_of, self._topic = progress, pool_of, topic
        self._heartbeat = heartbeat  # seconds
        self._followers: dict[Filter, set[Subscriber]] = {}
        self._wanted = asyncio.Event()
        self._moved = asyncio.Event()
        self._count = 0
        self.at: Stand | None = None  # None: nobody followed, so it was not read

    async def run(self, cursors: Cursors) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_for_ever(cursors))
            tasks.create_task(self._beat(cursors))

    async def position(self) -> Stand:
        """Where the tail is, once it is anywhere. The caller follows (`waiting`) already."""
        while self.at is None:
            await self._moved.wait()
        return self.at

    async def next_move(self) -> None:
        """Returns once the tail has read on."""
        moved = self._moved
        await moved.wait()

    def next_commit(self) -> asyncio.Event:
        """Set once the read model has moved, whether the tail has or not. Take it before reading."""
        return self._progress.next_move()

    @contextlib.contextmanager
    def kept_awake(self) -> Iterator[None]:
        """The tail is read for the body, and a little longer."""
        self._count += 1
        STREAMS_OPEN.set(self._count)
        self._wanted.set()
        try:
            yield
        finally:
            self._count -= 1
            STREAMS_OPEN.set(self._count)

    def join(self, subscriber: Subscriber) -> Stand:
        """From now on the client is given what comes; returns where that begins."""
        assert self.at is not None, "wait for `position` first"
        self._followers.setdefault(subscriber.wants, set()).add(subscriber)
        return self.at

    def leave(self, subscriber: Subscriber) -> None:
        """It is given nothing more."""
        followers = self._followers.get(subscriber.wants, set())
        followers.discard(subscriber)
        if not followers:
            self._followers.pop(subscriber.wants, None)

    def _all(self) -> list[Subscriber]:
        return [subscriber for followers in self._followers.values() for subscriber in followers]

    async def _read_for_ever(self, cursors: Cursors) -> None:
        while True:
            if not self._count:
                self.at = None  # what comes while nobody follows concerns nobody
                self._wanted.clear()
                await self._wanted.wait()
            try:
                with self._progress.interest():
                    await self._read_on(cursors)
            except AWAY as error:
                get_logger("query-side").warning("tail_interrupted", error=type(error).__name__)
                await asyncio.sleep(RETRY)

    async def _read_on(self, cursors: Cursors) -> None:
        """Reads until nobody follows."""
        if self.at is None:
            self._move(await self._progress.now())
        while self._count:
            moved = self._progress.next_move()
            assert self.at is not None
            try:
                page = await read_page(self._pool_of(), self._topic, self.at.place(), PAGE_LIMIT)
            except AnotherHistoryError:
                self._begin_again(await self._progress.now())
                continue
            if page.entries:
                self._give(page, cursors)
            self._move(Stand(page.end, page.history))
            if page.more:
                await self._until_taken()
            else:
                await moved.wait()

    def _begin_again(self, stand: Stand) -> None:
        """The history that everybody followed is served no more; each has to ask where to begin in the new one."""
        for subscriber in self._all():
            subscriber.end("history")
            self.leave(subscriber)
        self._move(stand)

    async def _until_taken(self) -> None:
        """Lets clients take a burst page by page, so that only those that are slow are dropped for it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                for subscriber in self._all():
                    await subscriber.taken.wait()

    def _move(self, to: Stand) -> None:
        if to != self.at:
            self.at = to
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()

    def _give(self, page: Page, cursors: Cursors) -> None:
        tag = page.history.tag
        rendered = [(entry, piece_of(entry, cursor_of(cursors, self._topic, at, tag))) for entry, at in page.walk()]
        if not rendered:
            return
        of_user: dict[str | None, list[tuple[LogEntry, bytes]]] = {}
        for entry, piece in rendered:
            of_user.setdefault(entry.user_id, []).append((entry, piece))
        for wants, followers in [*self._followers.items()]:
            found = rendered if wants.user_id is None else of_user.get(wants.user_id, [])
            pieces = b"".join(piece for entry, piece in found if wants.takes(entry))
            if pieces:
                self._offer(followers, pieces)

    def _offer(self, followers: Iterable[Subscriber], piece: bytes) -> None:
        for subscriber in [*followers]:
            if not subscriber.offer(piece):
                self.leave(subscriber)
                STREAMS_DROPPED.inc()

    async def _beat(self, cursors: Cursors) -> None:
        """Tells everybody from time to time that the stream lives, and how far it is."""
        while True:
            await asyncio.sleep(self._heartbeat)
            if self.at is not None:
                cursor = cursor_of(cursors, self._topic, self.at.at, self.at.history.tag)
                self._offer(self._all(), heartbeat_of(cursor))


def piece_of(entry: LogEntry, cursor: str) -> bytes:
    """One event as Server-Sent Events have it. Its JSON is one line."""
    return f"id: {cursor}\nevent: {entry.event_type}\ndata: {one_line(entry.event or '')}\n\n".encode()


def heartbeat_of(cursor: str) -> bytes:
    """A comment, and an id without data: a client notes it as its last event id, and sees no event."""
    return f": heartbeat\nid: {cursor}\n\n".encode()


def last_words(why: End) -> bytes:
    """The last event of a stream that we end; it has no id, so that the client goes on after the last that has."""
    reasons: Mapping[End, str] = {
        "slow": "You took events more slowly than they came; go on with Last-Event-ID.",
        "history": "The log was replaced; your id means nothing in the new one. Begin again with since=beginning.",
        "shutdown": "This server stops; go on with Last-Event-ID.",
    }
    data = msgspec.json.encode({"reason": why, "message": reasons[why]})
    return b"event: end\ndata: " + data + b"\n\n"
