"""Read your writes: one request policy before every query that names positions. Never a stale answer (docs/feed.md).

The policy waits; what makes the answer true is asked again in the very session that answers (`confirm`). A session does
not survive a crash of its server, nor a fail-over, so what it was told there is so in all that it reads there.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from query_side.api.responses import RefusedError, refusal_for
from query_side.log_positions.positions import Position, positions_of, wait_of, without_position
from query_side.log_positions.progress import Progress
from read_model.names import READ
from web.health import PROBES
from web.policies.decisions import ADMIT, Admit, Decision, NeedsIO, Refuse
from web.policies.request_head import RequestHead

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

    def policy(self, head: RequestHead) -> Decision:
        """See `RequestPolicy`: admits a query that names no position, and waits for those of any other."""
        return NeedsIO(partial(self._once_passed, head)) if asks(head) else ADMIT

    async def _once_passed(self, head: RequestHead) -> Admit | Refuse:
        """The parameter `position` goes no further."""
        token = None
        try:
            positions = positions_of(head.query, head.headers)
            if positions:
                await self._until_passed(positions, wait_of(head.headers))
                token = _asked.set(positions)
                await self._refuse_set_aside(positions)
        except Exception as error:  # noqa: BLE001 - named in the log, and answered
            if token is not None:
                _asked.reset(token)
            refused = refusal_for(error, head.path)
            return Refuse(refused.status, refused.error, refused.headers, refused.problems)
        release = None if token is None else lambda _: _asked.reset(token)
        return Admit(query=without_position(head.query), release=release)

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


def asks(head: RequestHead) -> bool:
    """Whether a request names a position, and is for rows."""
    return (
        head.method in ("GET", "HEAD")
        and (b"position=" in head.query or any(name == b"footfall-position" for name, _ in head.headers))
        and head.path not in PROBES
        and not head.path.endswith("/status")  # which answers whatever is so
    )
