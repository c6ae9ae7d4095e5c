"""An `EventLog` in memory: the smallest thing that keeps the promises of `command_side/event_log.py`."""

import asyncio
import zlib
from collections import deque
from collections.abc import Sequence

from command_side.event_log import LogBusyError, Outcome, Position, PublishError, PublishFailedError
from contracts.record import EventRecord


class MemoryEventLog:
    """Partitions as lists; a record waits for the next turn of the loop, as it would for a broker."""

    def __init__(self, *, partitions: int, max_pending: int, max_record_bytes: int) -> None:
        self.partitions: list[list[EventRecord]] = [[] for _ in range(partitions)]
        self._max_pending = max_pending
        self._max_record_bytes = max_record_bytes
        self._pending: deque[tuple[EventRecord, asyncio.Future[Position]]] = deque()
        self._arrived = asyncio.Event()
        self._closing = False
        self._rounds: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._rounds = asyncio.create_task(self._run_rounds())

    async def close(self) -> None:
        self._closing = True
        self._arrived.set()
        if self._rounds is not None:
            await self._rounds

    async def connected(self) -> bool:
        return True

    async def publish(self, record: EventRecord) -> Position:
        if len(self._pending) >= self._max_pending:
            raise LogBusyError
        future: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self._pending.append((record, future))
        self._arrived.set()
        return await future

    async def publish_all(self, records: Sequence[EventRecord]) -> list[Outcome]:
        if self._pending and len(self._pending) + len(records) > self._max_pending:
            raise LogBusyError
        futures: list[asyncio.Future[Position]] = [asyncio.get_running_loop().create_future() for _ in records]
        self._pending.extend(zip(records, futures, strict=True))
        self._arrived.set()
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        return [outcome for outcome in outcomes if isinstance(outcome, Position | PublishError)]

    async def _run_rounds(self) -> None:
        while self._pending or not self._closing:
            await self._arrived.wait()
            self._arrived.clear()
            while self._pending:
                self._append(*self._pending.popleft())

    def _append(self, record: EventRecord, future: asyncio.Future[Position]) -> None:
        if future.done():  # its publisher was cancelled
            return
        if len(record.value) > self._max_record_bytes:
            future.set_exception(PublishFailedError())
            return
        number = zlib.crc32(record.key) % len(self.partitions)
        self.partitions[number].append(record)
        future.set_result(Position(number, len(self.partitions[number]) - 1))
