"""The queries behind `/events`, by name, and how many rows are streamed."""

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Connection = PoolConnectionProxy | asyncpg.Connection
Executor = Connection | asyncpg.Pool
Sink = Callable[[bytes], Awaitable[None]]

EVENT_BY_ID = "SELECT event_json FROM read.processed_events WHERE tenant_id = 'default' AND event_id = $1"
IS_PROCESSED = "SELECT EXISTS (SELECT FROM read.processed_events WHERE tenant_id = 'default' AND event_id = $1)"
ALL_EVENTS = "SELECT event_json FROM read.processed_events WHERE tenant_id = 'default' ORDER BY occurred_at, event_id"
PROCESSED_COUNT = "SELECT coalesce(sum(stored), 0)::bigint FROM read.checkpoints"
CLEAR = """
WITH counted AS (UPDATE read.checkpoints SET stored = 0, duplicates = 0, malformed = 0)
DELETE FROM read.processed_events
"""


class ClearRefusedError(Exception):
    """`clear` was called outside the test environment."""


async def get_event_by_id(executor: Executor, event_id: UUID) -> str | None:
    """The event's JSON, or None when the read model does not have it (yet)."""
    found: str | None = await executor.fetchval(EVENT_BY_ID, event_id)
    return found


async def is_event_processed(executor: Executor, event_id: UUID) -> bool:
    """Whether the event is in the read model."""
    found: bool = await executor.fetchval(IS_PROCESSED, event_id)
    return found


async def count_processed_events(executor: Executor) -> int:
    """How many events the read model holds, as the checkpoints count them: a few rows, not a scan."""
    count: int = await executor.fetchval(PROCESSED_COUNT)
    return count


async def get_all_processed_events(connection: Connection, sink: Sink, timeout: float) -> None:
    """Streams all events, oldest first, into `sink`: chunks of some 500 KiB of whole lines, each the JSON of an event.

    `timeout`: seconds for the whole of it.
    """
    await copy_lines(connection, ALL_EVENTS, (), sink, timeout)


async def copy_lines(
    connection: Connection, query: str, arguments: Sequence[object], sink: Sink, timeout: float
) -> None:
    """Streams the only column of `query`, JSON, into `sink` as lines.

    One COPY is one snapshot, whatever is written meanwhile; it is read only as fast as `sink` takes it, so memory does
    not grow with the number of rows. PostgreSQL itself quotes `arguments`, as COPY takes no parameters.
    """

    async def on_rows(rows: bytes) -> None:
        await sink(unescaped(rows))

    await connection.copy_from_query(query, *arguments, output=on_rows, format="text", timeout=timeout)


def unescaped(copied: bytes) -> bytes:
    """Rows of COPY's text format, each one JSON document, as lines.

    JSON has no raw control characters, so the backslash is all that COPY escapes in it.
    """
    return copied.replace(b"\\\\", b"\\")


async def clear(connection: Connection, environment: str) -> None:
    """Empties the read model; checkpoints keep their positions. For tests: needs a role that may write.

    Raises ClearRefusedError outside `environment == "test"`.
    """
    if environment != "test":
        raise ClearRefusedError(
            f"clear is refused in environment {environment!r}: it would empty the read model. To start anew, rebuild."
        )
    await connection.execute(CLEAR)
