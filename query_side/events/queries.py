"""The queries behind `/events`, by name, and how many rows are streamed."""

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from uuid import UUID

import asyncpg

from read_model.connecting.pool import Connection

Executor = Connection | asyncpg.Pool
Sink = Callable[[bytes], Awaitable[None]]

EVENT_BY_ID = "SELECT event_json FROM read.processed_events WHERE tenant_id = $1 AND event_id = $2"
IS_PROCESSED = "SELECT EXISTS (SELECT FROM read.processed_events WHERE tenant_id = $1 AND event_id = $2)"
ALL_EVENTS = "SELECT event_json FROM read.processed_events WHERE tenant_id = $1 ORDER BY occurred_at, event_id"
PROCESSED_COUNT = "SELECT coalesce(sum(stored), 0)::bigint FROM read.checkpoints"
SET_ALL = "SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS given(name, value)"
CLEAR = """
WITH counted AS (UPDATE read.checkpoints SET stored = 0, duplicates = 0, malformed = 0)
DELETE FROM read.processed_events
"""

_parameter = re.compile(r"\$(\d+)").sub


class ClearRefusedError(Exception):
    """`clear` was called outside the test environment."""


async def get_event_by_id(executor: Executor, tenant_id: str, event_id: UUID) -> str | None:
    """The event's JSON, or None when the read model does not have it (yet)."""
    found: str | None = await executor.fetchval(EVENT_BY_ID, tenant_id, event_id)
    return found


async def is_event_processed(executor: Executor, tenant_id: str, event_id: UUID) -> bool:
    """Whether the event is in the read model."""
    found: bool = await executor.fetchval(IS_PROCESSED, tenant_id, event_id)
    return found


async def count_processed_events(executor: Executor) -> int:
    """How many events the read model holds, as the checkpoints count them: a few rows, not a scan."""
    count: int = await executor.fetchval(PROCESSED_COUNT)
    return count


async def get_all_processed_events(connection: Connection, tenant_id: str, sink: Sink, timeout: float) -> None:
    """Streams all of a tenant's events, oldest first, into `sink`: chunks of some 500 KiB of whole lines of JSON.

    `timeout`: seconds for the whole of it.
    """
    await copy_lines(connection, ALL_EVENTS, (tenant_id,), sink, timeout)


async def copy_lines(
    connection: Connection, query: str, arguments: Sequence[object], sink: Sink, timeout: float
) -> None:
    """Streams the only column of `query`, JSON, into `sink` as lines.

    One COPY is one snapshot, whatever is written meanwhile; it is read only as fast as `sink` takes it, so memory does
    not grow with the number of rows. COPY takes no parameters. Quoted in its text, `arguments` would stand in
    PostgreSQL's log of slow statements and in pg_stat_activity; so they travel as settings of the session.
    """

    async def on_rows(rows: bytes) -> None:
        await sink(unescaped(rows))

    if arguments:
        names = [setting_of(number) for number in range(1, len(arguments) + 1)]
        await connection.execute(SET_ALL, names, list(map(as_setting, arguments)))
    await connection.copy_from_query(with_settings(query), output=on_rows, format="text", timeout=timeout)


def setting_of(number: int) -> str:
    """The setting that carries a parameter."""
    return f"footfall.parameter_{number}"


@cache
def with_settings(query: str) -> str:
    """The query with settings in the place of its parameters, each with the type that the query gives it."""
    return _parameter(lambda found: f"NULLIF(current_setting('{setting_of(int(found[1]))}'), '')", query)


def as_setting(argument: object) -> str:
    """An argument as text that its type reads; None: empty."""
    if isinstance(argument, list | tuple):
        return f"{{{','.join(map(str, argument))}}}"  # event types, whose names need no quotes
    return "" if argument is None else str(argument)


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
