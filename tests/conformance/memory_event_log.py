"""An `EventLog` in memory: the smallest thing that keeps the promises of `command_side/publishing/event_log.py`."""

import asyncio
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from command_side.publishing.event_log import BUSY, TOO_LARGE, Acknowledged, NotTaken, Outcome
from contracts.record import EventRecord, PlacedRecord

OnResult = Callable[[Outcome], None]


class Pending:
    """One record, and whom to tell unless nobody waits any more."""

    def __init__(self, record: EventRecord, on_result: OnResult, is_wanted: Callable[[], bool] = lambda: True) -> None:
        self.record = record
        self._on_result = on_result
        self._is_wanted = is_wanted
        self._withdrawn = False

    def withdraw(self) -> None:
        self._withdrawn = True

    def wanted(self) -> bool:
        return not self._withdrawn and self._is_wanted()

    def tell(self, outcome: Outcome) -> None:
        with suppress(LookupError):  # a bug of the publisher is none of the others'
            self._on_result(outcome)


class MemoryEventLog:
    """Partitions as lists; a record waits for the next turn of the loop, as it would for a broker."""

    def __init__(self, *, partitions: int, max_pending: int, max_record_bytes: int) -> None:
        self.partitions: list[list[EventRecord]] = [[] for _ in range(partitions)]
        self._max_pending = max_pending
        self._max_record_bytes = max_record_bytes
        self._pending: deque[Pending] = deque()
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

    def publish_nowait(self, record: EventRecord, on_result: OnResult) -> Pending | NotTaken:
        if not self._has_room():
            return BUSY
        pending = Pending(record, on_result)
        self._pending.append(pending)
        self._arrived.set()
        return pending

    async def publish_all(self, records: Sequence[EventRecord]) -> list[Outcome] | NotTaken:
        if not self._has_room(len(records)):
            return BUSY
        futures: list[asyncio.Future[Outcome]] = [asyncio.get_running_loop().create_future() for _ in records]
        self._pending.extend(
            Pending(record, future.set_result, lambda future=future: not future.done())  # type: ignore[misc]
            for record, future in zip(records, futures, strict=True)
        )
        self._arrived.set()
        return await asyncio.gather(*futures)

    async def partition_count(self) -> int:
        return len(self.partitions)

    def _has_room(self, records: int = 1) -> bool:
        return not self._pending or len(self._pending) + records <= self._max_pending

    async def _run_rounds(self) -> None:
        while self._pending or not self._closing:
            await self._arrived.wait()
            self._arrived.clear()
            while self._pending:
                self._append(self._pending.popleft())

    def _append(self, pending: Pending) -> None:
        if not pending.wanted():
            return
        record = pending.record
        if len(record.value) > self._max_record_bytes:
            pending.tell(TOO_LARGE)
            return
        placed = record.partition if isinstance(record, PlacedRecord) else None
        number = zlib.crc32(record.key) % len(self.partitions) if placed is None else placed
        self.partitions[number].append(record)
        pending.tell(Acknowledged(number, len(self.partitions[number]) - 1))
