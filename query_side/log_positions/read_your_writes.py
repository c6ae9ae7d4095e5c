"""Read your writes: one guard before every query that names positions. Never a stale answer (docs/feed.md).

The guard waits; what makes the answer true is asked again in the very session that answers (`confirm`). A session does
not survive a crash of its server, nor a fail-over, so what it was told there is so in all that it reads there.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from query_side.api.responses import RefusedError, guarded
from query_side.log_positions.positions import Position, positions_of, wait_of, without_position
from query_side.log_positions.progress import Progress
from read_model.names import READ
from web.asgi import App, Receive, Scope, Send

MAX_WAITING = 1_000  # requests that may wait at once; more are refused at once

SET_ASIDE = f"""
SELECT kafka_partition, kafka_offset, state, cause, error_message, behind_offset
FROM {READ}.dead_letters AS l
JOIN unnest($2::int[], $3::bigint[]) AS asked(kafka_partition, kafka_offset) USING (kafka_partition, kafka_offset)
WHERE l.kafka_topic = $1 AND l.state <> 'redriven' ORDER BY kafka_partition, kafka_offset LIMIT 1
"""  # noqa: S608 - composed of constants


STANDS = f"""
SELECT partition, next_offset, stopped_reason FROM {READ}.checkpoints WHERE topic = $1 AND partition = ANY($2::int[])
"""  # noqa: S608 - composed of constants

# Where the log is another than the one that the rows came from, a position may name a record of either.
OTHER_HISTORY = ("another_history:", "history_cut:")

_asked: ContextVar[Sequence[Position]] = ContextVar("asked", default=())  # the positions of the request in hand


class Freshness:
    """Lets a query through once the read model has passed the positions that it names."""

    def __init__(self, progress: Progress, pool_of: Callable[[], asyncpg.Pool], topic: str) -> None:
        self._progress, self._pool_of, self._topic = progress, pool_of, topic
        self._waiting = 0

    def before(self, app: App) -> App:
        """`app` behind the guard. The parameter `position` does not reach it."""

        async def wait_then_answer(scope: Scope, receive: Receive, send: Send) -> None:
            positions = positions_of(scope)
            without_position(scope)
            if positions:
                await self._until_passed(positions, wait_of(scope))
            token = _asked.set(positions)
            try:
                if positions:
                    await self._refuse_set_aside(positions)
                await app(scope, receive, send)
            finally:
                _asked.reset(token)

        refusing = guarded(wait_then_answer)

        async def fresh(scope: Scope, receive: Receive, send: Send) -> None:
            await (refusing if asks(scope) else app)(scope, receive, send)

        return fresh

    async def confirm(self, connection: PoolConnectionProxy) -> None:
        """Called with each session before it reads: raises RefusedError, 503, where it does not see what was asked for.

        A crash may have come between the look and the answer, and the name of a server may mean several.
        """
        asked = _asked.get()
        if not asked:
            return
        rows = await connection.fetch(STANDS, self._topic, [position.partition for position in asked])
        found = {row["partition"]: row for row in rows}
        for position in asked:
            row = found.get(position.partition)
            if row is None or row["next_offset"] <= position.offset:
                self._progress.discard()
                raise _behind(position, None if row is None else row["next_offset"])
            if (row["stopped_reason"] or "").startswith(OTHER_HISTORY):
                raise _undecided(position, row["stopped_reason"])

    async def _until_passed(self, positions: Sequence[Position], seconds: float) -> None:
        if self._waiting >= MAX_WAITING:
            seconds = 0
        self._waiting += 1
        try:
            behind = await self._progress.wait_for(positions, seconds)
        finally:
            self._waiting -= 1
        if behind:
            raise await self._not_reached(behind[0])

    async def _not_reached(self, asked: Position) -> RefusedError:
        vector = (await self._progress.refresh()).at
        if asked.partition in vector:
            return _behind(asked, vector[asked.partition].next_offset)
        known = f"knows partitions {min(vector)} to {max(vector)}" if vector else "has no partition yet"
        error = f"The read model has not reached position {asked}: it {known}. Try again."
        return RefusedError(503, error, (b"retry-after", b"5"))

    async def _refuse_set_aside(self, positions: Sequence[Position]) -> None:
        partitions, offsets = zip(*positions, strict=True)
        row = await self._pool_of().fetchrow(SET_ASIDE, self._topic, list(partitions), list(offsets))
        if row is None:
            return
        at = Position(row["kafka_partition"], row["kafka_offset"])
        if row["state"] == "discarded":
            raise RefusedError(409, f"The event at position {at} was discarded by an operator: {row['error_message']}")
        waits = (
            f" It waits behind position {at.partition}-{row['behind_offset']}."
            if row["behind_offset"] is not None
            else ""
        )
        raise RefusedError(409, f"The event at position {at} is parked ({row['cause']}): {row['error_message']}{waits}")


def _behind(asked: Position, next_offset: int | None) -> RefusedError:
    if next_offset is None:
        error = f"The read model knows nothing of partition {asked.partition} now. Try again."
        return RefusedError(503, error, (b"retry-after", b"5"))
    if next_offset == 0:  # -1 is no position that a client could parse
        error = f"The read model has not reached position {asked}: it has nothing of that partition yet. Try again."
        return RefusedError(503, error, (b"retry-after", b"1"))
    reached = Position(asked.partition, next_offset - 1)
    error = f"The read model has not reached position {asked}: it stands at {reached}. Try again, or wait longer."
    return RefusedError(503, error, (b"retry-after", b"1"), (b"footfall-reached", str(reached).encode()))


def _undecided(asked: Position, reason: str) -> RefusedError:
    error = (
        f"Whether position {asked} is in the read model cannot be said: partition {asked.partition} stands still, "
        f"and an operator has to decide. {reason}"
    )
    return RefusedError(503, error, (b"retry-after", b"30"))


def asks(scope: Scope) -> bool:
    """Whether a request names a position."""
    return (
        scope["type"] == "http"
        and scope["method"] in ("GET", "HEAD")
        and not scope["path"].endswith("/status")  # which answers whatever is so
        and (b"position=" in scope["query_string"] or any(name == b"footfall-position" for name, _ in scope["headers"]))
    )
