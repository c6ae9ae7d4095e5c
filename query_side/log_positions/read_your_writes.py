"""Read your writes: a query that names positions waits until the read model has passed them (docs/feed.md).

The request policy waits. `confirm` then checks again in the database session that answers, so that no answer is stale.
A session does not survive a crash or a failover of its server, so the check holds for everything that it reads.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import NamedTuple

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from query_side.api.responses import refusal_for
from query_side.log_positions.bounded_waits import BoundedWaits
from query_side.log_positions.positions import Position, TenantPositions, positions_of, wait_of, without_position
from query_side.log_positions.progress import Progress
from read_model.names import READ
from web.health import PROBES
from web.policies.decisions import ADMIT, Admit, Decision, NeedsIO, Refuse, RefusedError
from web.policies.principal import DEFAULT_TENANT, Principal
from web.policies.request_head import RequestHead
from web.tenants.position_tokens import PositionTokens

PARKED = f"""
SELECT kafka_partition, kafka_offset, state, cause, error_message, behind_offset
FROM {READ}.dead_letters AS l
JOIN unnest($3::int[], $4::bigint[]) AS asked(kafka_partition, kafka_offset) USING (kafka_partition, kafka_offset)
WHERE l.tenant_id = $1 AND l.kafka_topic = $2 AND l.state <> 'redriven' ORDER BY kafka_partition, kafka_offset LIMIT 1
"""  # noqa: S608 - composed of constants


CHECKPOINTS = f"""
SELECT partition, next_offset, stopped_reason FROM {READ}.checkpoints WHERE topic = $1 AND partition = ANY($2::int[])
"""  # noqa: S608 - composed of constants

# A partition stopped for these reasons has rows of another log than the current one. A position may belong to either.
OTHER_HISTORY = ("another_history:", "history_cut:")


class Asked(NamedTuple):
    """The positions that a request names, and how its tenant sees positions."""

    mine: TenantPositions
    positions: Sequence[Position]


_asked: ContextVar[Asked | None] = ContextVar("asked", default=None)  # of the current request


def asked_positions() -> Sequence[Position]:
    """The positions that the current request names."""
    asked = _asked.get()
    return () if asked is None else asked.positions


class ReadYourWrites:
    """Lets a query through once the read model has passed the positions that it names."""

    def __init__(
        self,
        progress: Progress,
        pool_of: Callable[[], asyncpg.Pool],
        topic: str,
        tokens: PositionTokens,
        waits: BoundedWaits,
    ) -> None:
        self._progress, self._pool_of, self._topic, self._tokens = progress, pool_of, topic, tokens
        self._waits = waits

    def policy(self, head: RequestHead) -> Decision:
        """Admits a query that names no positions; for any other, waits for its positions. See `RequestPolicy`."""
        return NeedsIO(partial(self._admit_when_passed, head)) if names_position(head) else ADMIT

    async def _admit_when_passed(self, head: RequestHead) -> Admit | Refuse:
        """Waits for the positions, then admits the query without the parameter `position`."""
        token = None
        try:
            mine = TenantPositions(self._tokens, head.fact(Principal).tenant_id)
            asked = Asked(mine, positions_of(head.query, head.headers, mine))
            if asked.positions:
                behind = await self._waits.wait_for(head.fact(Principal), asked.positions, wait_of(head.headers))
                if behind:
                    raise await self._not_reached(mine, behind[0])
                token = _asked.set(asked)
                await self._refuse_parked(asked)
        except Exception as error:  # noqa: BLE001 - named in the log, and answered
            if token is not None:
                _asked.reset(token)
            return refusal_for(error, head.path)
        release = None if token is None else lambda _: _asked.reset(token)
        return Admit(query=without_position(head.query), release=release)

    async def confirm(self, connection: PoolConnectionProxy) -> None:
        """Checks a session before it reads. Raises RefusedError (503) if it has not passed the request's positions.

        The server may have crashed since the wait, and one server name may lead to several servers.
        """
        asked = _asked.get()
        if asked is None:
            return
        rows = await connection.fetch(CHECKPOINTS, self._topic, [position.partition for position in asked.positions])
        found = {row["partition"]: row for row in rows}
        for position in asked.positions:
            row = found.get(position.partition)
            if row is None or row["next_offset"] <= position.offset:
                self._progress.discard()
                raise _not_yet(asked.mine, position, None if row is None else row["next_offset"])
            if (row["stopped_reason"] or "").startswith(OTHER_HISTORY):
                raise _unknown(asked.mine, position, row["stopped_reason"])

    async def _not_reached(self, mine: TenantPositions, asked: Position) -> RefusedError:
        progress = (await self._progress.refresh()).at
        if asked.partition in progress:
            return _not_yet(mine, asked, progress[asked.partition].next_offset)
        known = f"knows partitions {min(progress)} to {max(progress)}" if progress else "has no partition yet"
        error = f"The read model has not reached position {mine.text(asked)}: it {known}. Try again."
        return RefusedError(503, error, (b"retry-after", b"5"))

    async def _refuse_parked(self, asked: Asked) -> None:
        mine = asked.mine
        partitions, offsets = zip(*asked.positions, strict=True)
        row = await self._pool_of().fetchrow(PARKED, mine.tenant_id, self._topic, list(partitions), list(offsets))
        if row is None:
            return
        at = mine.text(Position(row["kafka_partition"], row["kafka_offset"]))
        if row["state"] == "discarded":
            raise RefusedError(409, f"The event at position {at} was discarded by an operator: {row['error_message']}")
        waits = (
            f" It waits behind position {mine.text(Position(row['kafka_partition'], row['behind_offset']))}."
            if row["behind_offset"] is not None
            else ""
        )
        raise RefusedError(409, f"The event at position {at} is parked ({row['cause']}): {row['error_message']}{waits}")


def _not_yet(mine: TenantPositions, asked: Position, next_offset: int | None) -> RefusedError:
    named = mine.text(asked)
    if next_offset is None:
        error = f"The read model has no data of partition {asked.partition} now. Try again."
        return RefusedError(503, error, (b"retry-after", b"5"))
    if next_offset == 0:  # clients cannot parse a position with the offset -1
        error = f"The read model has not reached position {named}: it has nothing of that partition yet. Try again."
        return RefusedError(503, error, (b"retry-after", b"1"))
    reached = mine.text(Position(asked.partition, next_offset - 1)) or ""
    error = f"The read model has not reached position {named}: it is at {reached}. Try again, or wait longer."
    return RefusedError(503, error, (b"retry-after", b"1"), (b"footfall-reached", reached.encode()))


def _unknown(mine: TenantPositions, asked: Position, reason: str) -> RefusedError:
    # It may say offsets, which count the events of all tenants.
    told = f" {reason}" if mine.tenant_id == DEFAULT_TENANT else ""
    error = (
        f"It is unknown whether position {mine.text(asked)} is in the read model: partition {asked.partition} is "
        f"stopped until an operator decides.{told}"
    )
    return RefusedError(503, error, (b"retry-after", b"30"))


def names_position(head: RequestHead) -> bool:
    """Returns whether a request names a position and reads rows."""
    return (
        head.method in ("GET", "HEAD")
        and (b"position=" in head.query or any(name == b"footfall-position" for name, _ in head.headers))
        and head.path not in PROBES
        and not head.path.endswith("/status")  # the status of an event waits by itself
    )
