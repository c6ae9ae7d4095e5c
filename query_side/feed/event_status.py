"""Looks up the status of an event, or of one of its records (`GET /events/{eventId}/status`)."""

from collections.abc import Callable
from typing import Literal
from uuid import UUID

import asyncpg
import msgspec

from query_side.events.forgotten import forgotten, is_forgotten_at
from query_side.log_positions.bounded_waits import BoundedWaits
from query_side.log_positions.positions import Position, TenantPositions
from read_model.connecting.pool import Connection
from read_model.names import READ
from read_model.wire_time import WireTime, wire_time, wire_time_or_none
from web.policies.decisions import RefusedError
from web.policies.principal import Principal

EVENT = f"""
SELECT kafka_partition, kafka_offset, occurred_at, recorded_at, projected_at
FROM {READ}.processed_events WHERE tenant_id = $1 AND event_id = $2
"""  # noqa: S608 - composed of constants
LETTER_COLUMNS = """kafka_partition, kafka_offset, event_id, recorded_at, parked_at, resolved_at, state, cause,
error_message, behind_offset, attempts"""
LETTERS_OF_EVENT = f"""
SELECT {LETTER_COLUMNS} FROM {READ}.dead_letters
WHERE tenant_id = $1 AND event_id = $2 AND kafka_topic = $3 AND state <> 'redriven'
ORDER BY state = 'parked' DESC, kafka_partition, kafka_offset LIMIT 1
"""  # noqa: S608 - composed of constants
LETTER_AT = f"""
SELECT {LETTER_COLUMNS} FROM {READ}.dead_letters
WHERE tenant_id = $1 AND kafka_topic = $2 AND kafka_partition = $3 AND kafka_offset = $4
"""  # noqa: S608 - composed of constants
CHECKPOINT = f"SELECT next_offset FROM {READ}.checkpoints WHERE topic = $1 AND partition = $2"  # noqa: S608

GONE = "What there was at this position is older than what the read model keeps."
# expired: what there was at that time, or at that position, is deleted because of its age.
Life = Literal["accepted", "projected", "duplicate", "parked", "dead", "expired", "unknown"]


class Status(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The status of one event. Positions are as its tenant sees them; times belong to the record at `position`."""

    event_id: UUID
    status: Life
    position: str | None = None
    stored_at: str | None = None  # for a duplicate: the position of the record that was stored
    read_model_at: str | None = None  # for an accepted event: the last projected position of its partition
    occurred_at: WireTime | None = None
    recorded_at: WireTime | None = None
    projected_at: WireTime | None = None
    parked_at: WireTime | None = None
    discarded_at: WireTime | None = None
    cause: str | None = None
    reason: str | None = None
    waits_behind: str | None = None
    attempts: int | None = None


class Statuses:
    """Looks up the status of events of one topic."""

    def __init__(self, waits: BoundedWaits, pool_of: Callable[[], asyncpg.Pool], topic: str, timeout: float) -> None:
        self._waits = waits
        self._pool_of, self._topic, self._timeout = pool_of, topic, timeout

    async def of(
        self, principal: Principal, mine: TenantPositions, event_id: UUID, at: Position | None, wait: float
    ) -> Status:
        """Returns the status of an event, read in one snapshot.

        Args:
            principal: who asks, and may hold a share of the waits.
            mine: the tenant, whose event it must be.
            event_id: the event.
            at: the position of one of its records; then the status is that record's. None: the event's.
            wait: seconds at most to wait until the read model has reached `at`.

        Raises:
            RefusedError: (429) the principal's share of the waits is used up.
        """
        if at is not None:
            await self._waits.wait_for(principal, [at], wait)
        async with (
            self._pool_of().acquire(timeout=self._timeout) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            row = await connection.fetchrow(EVENT, mine.tenant_id, event_id)
            if at is None:
                return await self._of_event(connection, mine, event_id, row)
            return await self._of_record(connection, mine, event_id, row, at)

    async def _of_event(
        self, connection: Connection, mine: TenantPositions, event_id: UUID, row: asyncpg.Record | None
    ) -> Status:
        if row is not None:
            return projected_status(mine, event_id, row)
        letter = await connection.fetchrow(LETTERS_OF_EVENT, mine.tenant_id, str(event_id), self._topic)
        if letter is None:
            return await self._not_there(connection, mine, event_id)
        return dead_letter_status(mine, event_id, letter)

    async def _of_record(
        self,
        connection: Connection,
        mine: TenantPositions,
        event_id: UUID,
        row: asyncpg.Record | None,
        at: Position,
    ) -> Status:
        if row is not None and position_of(row) == at:
            return projected_status(mine, event_id, row)
        next_offset = await connection.fetchval(CHECKPOINT, self._topic, at.partition)
        if next_offset is None or next_offset <= at.offset:
            reached = mine.text(Position(at.partition, next_offset - 1)) if next_offset else None
            return Status(event_id=event_id, status="accepted", position=mine.text(at), read_model_at=reached)
        letter = await connection.fetchrow(LETTER_AT, mine.tenant_id, self._topic, *at)
        if letter is not None and letter["state"] != "redriven" and letter["event_id"] in (None, str(event_id)):
            return dead_letter_status(mine, event_id, letter)
        if row is not None:
            stored_at = mine.text(position_of(row))
            return Status(event_id=event_id, status="duplicate", position=mine.text(at), stored_at=stored_at)
        if await is_forgotten_at(connection, mine.tenant_id, *at):
            return Status(event_id=event_id, status="expired", position=mine.text(at), reason=GONE)
        return await self._not_there(connection, mine, event_id, at)

    async def _not_there(
        self, connection: Connection, mine: TenantPositions, event_id: UUID, at: Position | None = None
    ) -> Status:
        gone = await forgotten(connection, mine.tenant_id, event_id)
        return Status(
            event_id=event_id,
            status="expired" if gone is not None and gone.surely else "unknown",
            position=None if at is None else mine.text(at),
            reason=None if gone is None else gone.sentence,
        )


def projected_status(mine: TenantPositions, event_id: UUID, row: asyncpg.Record) -> Status:
    return Status(
        event_id=event_id,
        status="projected",
        position=mine.text(position_of(row)),
        occurred_at=wire_time(row["occurred_at"]),
        recorded_at=wire_time(row["recorded_at"]),
        projected_at=wire_time(row["projected_at"]),
    )


def dead_letter_status(mine: TenantPositions, event_id: UUID, letter: asyncpg.Record) -> Status:
    at, behind = position_of(letter), letter["behind_offset"]
    return Status(
        event_id=event_id,
        status="parked" if letter["state"] == "parked" else "dead",
        position=mine.text(at),
        recorded_at=wire_time(letter["recorded_at"]),
        parked_at=wire_time(letter["parked_at"]),
        discarded_at=wire_time_or_none(letter["resolved_at"]),
        cause=letter["cause"],
        reason=letter["error_message"],
        waits_behind=None if behind is None else mine.text(Position(at.partition, behind)),
        attempts=letter["attempts"],
    )


def position_of(row: asyncpg.Record) -> Position:
    return Position(row["kafka_partition"], row["kafka_offset"])


def at_most_one(positions: list[Position]) -> Position | None:
    """Returns the only position, or None. Raises RefusedError (400) for several."""
    if len(positions) > 1:
        raise RefusedError(400, errors=["Name at most one position: a status is that of one record."])
    return positions[0] if positions else None
