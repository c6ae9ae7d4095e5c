"""Writes exports and refused sign-ins into the audit log (docs/audit.md).

An export is written before its first byte: if it cannot be, it is refused. More of the same within a minute are one row
more, so that no client can fill the log by asking again and again.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import msgspec

from read_model.audit import AuditEntry, AuditUnavailableError, write_entry
from read_model.connecting.unavailable import DATABASE_UNAVAILABLE
from telemetry.logs import get_logger
from telemetry.refusals import RefusalTally
from web.policies.decisions import RefusedError

MINUTE = 60.0  # seconds of one sum
MAX_SUMS = 1_000  # different exports that are summed up; others have a row each
WRITE_TIMEOUT = 5.0  # seconds; an export waits for it
UNAVAILABLE = "Exports are written into the audit log, which cannot be written now; try again shortly."
ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, AuditUnavailableError)

Open = Callable[[], Awaitable[asyncpg.Pool]]


class AuditRecorder:
    """Appends entries with a pool of its own, which it opens when there is something to write.

    Args:
        open_pool: Opens a pool to the primary whose sessions may write.
        tally: What this process has refused.
    """

    def __init__(self, open_pool: Open, tally: RefusalTally) -> None:
        self._open = open_pool
        self._tally = tally
        self._opened: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()
        self._repeats: Counter[AuditEntry] = Counter()  # written in this minute; how often since, without the first
        self._minute_began = time.monotonic()

    async def export(self, entry: AuditEntry, request_id: str) -> None:
        """Writes an export before it begins. Raises RefusedError, 503, if that is not possible."""
        try:
            if time.monotonic() - self._minute_began > MINUTE:
                await self.flush()
            if entry in self._repeats:
                self._repeats[entry] += 1
                return
            await self._write(msgspec.structs.replace(entry, request_id=request_id))
        except DATABASE_UNAVAILABLE:  # is told as for every query
            raise
        except ERRORS as error:
            get_logger("query-side").error("audit_log_not_written", action=entry.action, error=type(error).__name__)
            raise RefusedError(503, UNAVAILABLE, (b"retry-after", b"5")) from error
        if len(self._repeats) < MAX_SUMS:
            self._repeats[entry] = 0

    async def flush(self) -> None:
        """Writes the sums of the minute, and begins another. What cannot be written is kept, and the error raised."""
        self._minute_began = time.monotonic()
        try:
            await self._write_sums()
        except BaseException:
            # Until they are written, no export is let out: each tries again.
            self._minute_began = float("-inf")
            raise

    async def _write_sums(self) -> None:
        for entry in list(self._repeats):
            await self._write_repeats(entry, self._repeats.pop(entry, 0))  # 0: another flush has taken it meanwhile
        with self._tally.taking() as refusals:
            for reason, count in list(refusals.items()):
                await self._write(refused_sign_ins(reason, count))
                del refusals[reason]

    async def _write_repeats(self, entry: AuditEntry, count: int) -> None:
        if not count:
            return
        try:
            await self._write(msgspec.structs.replace(entry, target=f"{entry.target}; {count} more in a minute"))
        except BaseException:
            self._repeats[entry] += count
            raise

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Writes the sums of each minute during the body, and the last one behind it."""
        task = asyncio.create_task(self._flush_each_minute())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])  # what it could not write is counted again, for the last sums
            await self._try_to_flush()
            if self._opened is not None:
                self._opened.terminate()

    async def _flush_each_minute(self) -> None:
        while True:
            await asyncio.sleep(MINUTE)
            await self._try_to_flush()

    async def _try_to_flush(self) -> None:
        try:
            await self.flush()
        except ERRORS as error:
            get_logger("query-side").error("audit_log_not_written", action="sums", error=type(error).__name__)

    async def _write(self, entry: AuditEntry) -> None:
        async with asyncio.timeout(WRITE_TIMEOUT):
            await write_entry(await self._pool(), entry)

    async def _pool(self) -> asyncpg.Pool:
        async with self._opening:
            if self._opened is None:
                self._opened = await self._open()
            return self._opened


def refused_sign_ins(reason: str, count: int) -> AuditEntry:
    """The entry that sums up refusals."""
    return AuditEntry(actor="query side", action="sign-ins refused", outcome="refused", target=f"{reason}: {count}")
