"""Deletes what is older than its tenant keeps it, in steps that are short and wait for nobody.

PostgreSQL decides what is too old, by the lines of `ops.retention` (migration 0021): functions of the owner's delete
that, and nothing else. Here are the steps: one transaction each, and a rest after it, so that readers and writers have
the server at least half of the time.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from read_model.connecting.pool import Connection
from read_model.generations.register import BUILT, Generation

AT_ONCE = 2_000  # rows that a step looks at
FIRST_MOMENT = datetime.min.replace(tzinfo=UTC)  # which asyncpg sends as -infinity
LEAST_ID = UUID(int=0)
EVERY_OTHER_TYPE = ""
# Rows of users come first: an erasure finds them by the counts of their hours.
BY_HOUR = (
    *("activity_hourly_users", "activity_hourly_type_users", "product_views_users"),
    *("activity_hourly", "product_views"),
)

# Each tenant with a row, by one look into the index for each.
_TENANTS = """
    (SELECT tenant_id FROM {table} ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT tenant_id FROM {table} WHERE tenant_id > last.tenant_id ORDER BY tenant_id LIMIT 1)
    FROM {name} AS last WHERE last.tenant_id IS NOT NULL
"""
TENANTS = f"""
WITH RECURSIVE of_events AS ({_TENANTS.format(table="{generation}.processed_events", name="of_events")}),
of_users AS ({_TENANTS.format(table="{generation}.user_activity", name="of_users")})
SELECT tenant_id FROM of_events WHERE tenant_id IS NOT NULL
UNION SELECT tenant_id FROM of_users WHERE tenant_id IS NOT NULL ORDER BY 1
"""
KINDS = "SELECT event_type FROM read.retention WHERE tenant_id = $1 AND what = 'events' AND event_type <> '' ORDER BY 1"
ANY_LINE = "SELECT EXISTS (SELECT FROM read.retention WHERE what IN ('events', 'counts'))"
DECLARE = "SELECT ops.declare_retention($1, $2)"
EVENTS = "SELECT * FROM ops.forget_events($1, $2, $3, $4, $5, $6, $7)"
SESSIONS = "SELECT * FROM ops.forget_sessions($1, $2, $3, $4, $5, $6, $7)"
HOURS = "SELECT ops.forget_hours($1, $2, $3, $4, $5)"
# How far a build is in time: of the partition that is furthest behind, when the last stored record was made. Null: that
# is not known of some partition that is behind the serving generation.
CLOCK = """
SELECT CASE WHEN bool_and(moment IS NOT NULL) THEN min(moment) END FROM (
    SELECT CASE WHEN here.next_offset >= there.next_offset THEN $1::timestamptz ELSE (
               SELECT recorded_at FROM {built}.processed_events AS e
               WHERE e.kafka_topic = here.topic AND e.kafka_partition = here.partition
               ORDER BY e.kafka_offset DESC LIMIT 1) END AS moment
    FROM {serving}.checkpoints AS there
    LEFT JOIN {built}.checkpoints AS here ON (here.topic, here.partition) = (there.topic, there.partition)
) AS partitions
"""


class Forgetting:
    """Deletes from one generation what is older than it may be at the moment `as_of`, and counts rows by table."""

    def __init__(self, connection: Connection, generation: str, as_of: datetime, *, rest: float = 0.0) -> None:
        """`rest`: seconds of rest for each second of work."""
        self._connection, self.generation, self._as_of, self._rest = connection, generation, as_of, rest
        self.rows: Counter[str] = Counter()

    async def all_tenants(self) -> None:
        """Deletes of every tenant. Raises asyncpg's errors; what was deleted until then stays deleted."""
        for row in await self._connection.fetch(TENANTS.format(generation=self.generation)):
            await self._of_tenant(row["tenant_id"])

    async def _of_tenant(self, tenant_id: str) -> None:
        named = [row["event_type"] for row in await self._connection.fetch(KINDS, tenant_id)]
        for kind in (*named, EVERY_OTHER_TYPE):
            await self._events(tenant_id, kind)
        await self._sessions(tenant_id)
        for table in BY_HOUR:
            deleted = AT_ONCE
            while deleted == AT_ONCE:
                row = await self._step(HOURS, tenant_id, table, self._as_of)
                deleted = self._counted(table, row[0])

    async def _events(self, tenant_id: str, kind: str) -> None:
        place: tuple[object, ...] = (FIRST_MOMENT, LEAST_ID)
        looked_at = AT_ONCE
        while looked_at == AT_ONCE:
            row = await self._step(EVENTS, tenant_id, kind, self._as_of, *place)
            place, looked_at = (row["after_time"], row["after_id"]), row["looked_at"]
            self._counted("processed_events", row["deleted"])

    async def _sessions(self, tenant_id: str) -> None:
        place: tuple[object, ...] = ("", -1, LEAST_ID)
        looked_at = AT_ONCE
        while looked_at == AT_ONCE:
            row = await self._step(SESSIONS, tenant_id, self._as_of, *place)
            place = (row["after_user"], row["after_partition"], row["after_session"])
            looked_at = row["looked_at"]
            self._counted("user_sessions", row["deleted"])

    def _counted(self, table: str, rows: int) -> int:
        self.rows[table] += rows
        return rows

    async def _step(self, statement: str, *arguments: object) -> Any:
        began = time.monotonic()
        [row] = await self._connection.fetch(statement, self.generation, *arguments, AT_ONCE)
        await asyncio.sleep(self._rest * (time.monotonic() - began))
        return row


async def forget_old(
    connection: Connection, generations: Sequence[str], *, rest: float = 0.0
) -> dict[str, Counter[str]]:
    """Deletes from generations what is too old now, up to the same moments in each. Returns rows by table."""
    now = datetime.now(UTC)
    return await _forgotten(connection, [Forgetting(connection, name, now, rest=rest) for name in generations])


async def forget_as_it_was(
    connection: Connection, generations: Sequence[Generation], *, rest: float = 0.0
) -> dict[str, Counter[str]]:
    """As `forget_old`; but a build forgets only what was too old when the last of its records were made.

    What came twice must find the first one there, in a rebuild too: else it would be counted twice.
    """
    now, found = datetime.now(UTC), []
    serving = next(each.name for each in generations if each.state == "active")
    for each in generations:
        as_of = now
        if each.state in BUILT:
            as_of = await connection.fetchval(CLOCK.format(serving=serving, built=each.name), now)
        if as_of is not None:
            found.append(Forgetting(connection, each.name, as_of, rest=rest))
    return await _forgotten(connection, found)


async def _forgotten(connection: Connection, found: Sequence[Forgetting]) -> dict[str, Counter[str]]:
    if await connection.fetchval(ANY_LINE):
        for each in found:
            await each.all_tenants()
    return {each.generation: each.rows for each in found}


async def declare(connection: Connection, event_days: int | None, count_days: int | None) -> None:
    """Says for how long events and counts are kept of tenants without a line of their own; None: for ever."""
    await connection.execute(DECLARE, event_days, count_days)
