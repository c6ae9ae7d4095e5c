"""What the projections know: SQL over the views of schema `read`, one range of one index each."""

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from query_side.events.pages import LEAST_ID, Place
from read_model.connecting.pool import Connection
from read_model.wire_time import WireTime, wire_time

USER_ACTIVITY = """
SELECT first_seen, last_seen, logins, logouts, product_views, last_login_at, logged_in, last_product_id
FROM read.user_activity WHERE tenant_id = $1 AND user_id = $2
"""

# The newest first. A user's sessions are one range; sorting them costs what that user did, not what all did.
USER_SESSIONS = """
SELECT session_id, started_at, ended_at, ended_by, extract(epoch FROM duration)::float8 AS seconds, views, products,
       more_products
FROM read.user_sessions
WHERE tenant_id = $1 AND user_id = $2 AND (started_at, session_id) < ($3::text::timestamptz, $4::uuid)
ORDER BY started_at DESC, session_id DESC LIMIT $5
"""

TOP_PRODUCTS = """
SELECT product_id, sum(views)::bigint AS views FROM read.product_views
WHERE tenant_id = $1 AND hour >= $2 AND hour < $3
GROUP BY product_id ORDER BY views DESC, product_id LIMIT $4
"""

ACTIVITY_HOURLY = """
SELECT hour, event_type, events, distinct_users FROM read.activity_hourly
WHERE tenant_id = $1 AND hour >= $2 AND hour < $3 AND ($4::text[] = '{}' OR event_type = ANY($4::text[]))
ORDER BY hour, event_type
"""


class UserActivity(msgspec.Struct, frozen=True, rename="camel"):
    """What one user did. Times in UTC; null where it never happened."""

    user_id: str
    first_seen: WireTime
    last_seen: WireTime
    logins: int
    logouts: int
    product_views: int
    last_login_at: WireTime | None
    logged_in: bool
    last_product_id: str | None


class UserSession(msgspec.Struct, frozen=True, rename="camel"):
    """From a LOGIN, whose event id it has, to what ended it; the last three of an open one are null."""

    session_id: UUID
    started_at: WireTime
    views: int
    products: list[str]
    more_products: bool
    ended_at: WireTime | None
    ended_by: str | None
    seconds: float | None

    def place(self) -> Place:
        """Where it stands among its user's sessions."""
        return Place(datetime.fromisoformat(self.started_at), self.session_id)


class ProductViews(msgspec.Struct, frozen=True, rename="camel"):
    """How often a product was viewed."""

    product_id: str
    views: int


class HourOfActivity(msgspec.Struct, frozen=True, rename="camel"):
    """Events of one type in one hour, and by how many different users."""

    hour: WireTime
    event_type: str
    events: int
    distinct_users: int


class TopProducts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"since": "from", "until": "to"}):
    """The most viewed products of full hours."""

    since: WireTime
    until: WireTime
    products: list[ProductViews]


class HourlyActivity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"since": "from", "until": "to"}):
    """What happened in full hours; one in which nothing happened is left out."""

    since: WireTime
    until: WireTime
    hours: list[HourOfActivity]


async def user_activity(connection: Connection, tenant_id: str, user_id: str) -> UserActivity | None:
    """None for a user without events."""
    row = await connection.fetchrow(USER_ACTIVITY, tenant_id, user_id)
    return None if row is None else UserActivity(user_id=user_id, **_written(row))


async def user_sessions(
    connection: Connection, tenant_id: str, user_id: str, after: Place | None, limit: int
) -> tuple[list[UserSession], Place | None]:
    """At most `limit` sessions after that place, the newest first, and the place of the last one if more follow."""
    before = ("infinity", LEAST_ID) if after is None else (after.time.isoformat(), after.event_id)
    rows = await connection.fetch(USER_SESSIONS, tenant_id, user_id, *before, limit + 1)
    sessions = [UserSession(**_written(row)) for row in rows[:limit]]
    return sessions, sessions[-1].place() if len(rows) > limit else None


async def top_products(
    connection: Connection, tenant_id: str, since: datetime, until: datetime, limit: int
) -> list[ProductViews]:
    """The most viewed products of full hours, the most viewed first."""
    rows = await connection.fetch(TOP_PRODUCTS, tenant_id, since, until, limit)
    return [ProductViews(**_written(row)) for row in rows]


async def activity_hourly(
    connection: Connection, tenant_id: str, since: datetime, until: datetime, event_types: tuple[str, ...]
) -> list[HourOfActivity]:
    """Each hour and type in which there was an event; no types named: of every type that is in the log."""
    rows = await connection.fetch(ACTIVITY_HOURLY, tenant_id, since, until, event_types)
    return [HourOfActivity(**_written(row)) for row in rows]


def _written(row: asyncpg.Record) -> dict[str, Any]:
    return {name: wire_time(value) if isinstance(value, datetime) else value for name, value in row.items()}
