"""Who may write a sink: one process into a file, many into a server, and never two into different targets.

A process holds an advisory lock of PostgreSQL as long as it runs: alone, or shared with others of its sink. PostgreSQL
releases it when the process dies, so the next one begins at once.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal
from uuid import UUID

import asyncpg

from projector.writing.failure import DATABASE_ERRORS, Failure, OutsideError
from read_model.connecting.database_url import Url
from read_model.connecting.pool import connect
from telemetry.logs import get_logger

CHECK_INTERVAL = 2.0  # seconds
ANSWER_TIMEOUT = 10.0  # seconds
CLOSE_TIMEOUT = 5.0  # seconds

ALONE = "SELECT pg_try_advisory_lock($1)"
SHARED = "SELECT pg_try_advisory_lock_shared($1)"
NO_LONGER_ALONE = "SELECT pg_try_advisory_lock_shared($1), pg_advisory_unlock($1)"
TARGET = "SELECT target FROM ops.sinks WHERE name = $1"
HOLDERS = """
SELECT DISTINCT a.pid, a.usename::text AS role, a.application_name AS application, a.client_addr AS address
FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND a.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32) | l.objid::bigint = $1
ORDER BY a.pid LIMIT 5
"""

Held = Literal["alone", "shared"]


class SinkTakenError(OutsideError):
    """Another process writes this sink, and there can be one only. It may end soon."""


class AnotherTargetError(OutsideError):
    """Another process writes the sink of this name into another target, or of other tenants."""

    kind = Failure.SERVER

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Another process writes {name} into another target, or has other SINK_TENANTS. "
            "Give each a SINK_NAME of its own."
        )


class Holder:
    """The lock of one process on its sink."""

    def __init__(self, url: Url, name: str, *, one_only: bool) -> None:
        """`one_only`: the engine takes one process."""
        self._url, self._name, self._one_only = url, name, one_only
        self._key = int.from_bytes(hashlib.sha256(f"footfall {name}".encode()).digest()[:8], signed=True)
        self._connection: asyncpg.Connection | None = None
        self.held: Held = "shared"

    async def take(self) -> Held:
        """Takes the lock: alone if nobody has it. Raises SinkTakenError, and errors of PostgreSQL."""
        connection = await self._connected()
        if await connection.fetchval(ALONE, self._key):
            self.held = "alone"
        elif not self._one_only and await connection.fetchval(SHARED, self._key):
            self.held = "shared"
        else:
            raise SinkTakenError(await self._taken(connection))
        return self.held

    async def opened(self, target: UUID, *, anew: bool) -> None:
        """Checks, beside other processes of the sink, that they write to the same target.

        Raises:
            AnotherTargetError: They do not.
            SinkTakenError: They run, and this one shall begin anew.
        """
        if self.held == "alone":
            return
        connection = await self._connected()
        if anew:
            raise SinkTakenError(f"{await self._taken(connection)} End it before --anew.")
        if await connection.fetchval(TARGET, self._name) != target:
            raise AnotherTargetError(self._name)

    async def let_others(self) -> None:
        """Lets other processes of the sink begin, if its engine takes several."""
        if self.held == "alone" and not self._one_only:
            await (await self._connected()).fetchrow(NO_LONGER_ALONE, self._key)
            self.held = "shared"

    async def watch(self, target: UUID) -> None:
        """Looks every few seconds, for ever, whether the lock is held and the target is still that of the sink.

        Raises:
            AnotherTargetError: Another process has begun to write the sink into another target.
            SinkTakenError: The connection was lost, and another process has the lock now.
        """
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            try:
                if self._connection is None or self._connection.is_closed():
                    await self.take()
                    await self.let_others()
                found = await (await self._connected()).fetchval(TARGET, self._name, timeout=ANSWER_TIMEOUT)
            except DATABASE_ERRORS as error:
                get_logger("sink").warning("lock_unknown", sink=self._name, error=type(error).__name__)
                self.drop()
                continue
            if found != target:
                raise AnotherTargetError(self._name)

    def drop(self) -> None:
        """Ends the connection at once, and with it the lock."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            application = f"footfall-sink {self._name}"
            self._connection = await connect(self._url, application, query_timeout=ANSWER_TIMEOUT)
        return self._connection

    async def _taken(self, connection: asyncpg.Connection) -> str:
        holders = ", ".join(map(_described, await connection.fetch(HOLDERS, self._key)))
        why = f"{self._name} is written by one process at a time" if self._one_only else f"{self._name} is being opened"
        return f"{why}, and another has it: {holders or 'a session that is gone by now'}."


def _described(row: asyncpg.Record) -> str:
    address = f", from {row['address']}" if row["address"] else ""
    return f"session {row['pid']} (role {row['role']}, application {row['application'] or 'unnamed'}{address})"


@asynccontextmanager
async def holding(url: Url, name: str, *, one_only: bool) -> AsyncIterator[Holder]:
    """Yields the holder of a sink, and releases its lock at the end."""
    holder = Holder(url, name, one_only=one_only)
    try:
        yield holder
    finally:
        holder.drop()
