"""Fills the read model with rows that PostgreSQL generates, as the projector would have stored them."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg

USERS = 5_000
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)  # time of event 0; one event a second

# Each user in turn logs in, views three products and logs out. The payloads are as long as the demo's.
INSERT = """
INSERT INTO read_g1.processed_events (kafka_offset, occurred_at, recorded_at, event_id, kafka_partition, kafka_topic,
                                      user_id, event_type, payload, event_json, tenant_id)
SELECT n, moment, moment, id::uuid, n % 6, 'user-activity-events', who, kind, payload::jsonb,
       format('{"eventId":"%s","userId":"%s","eventType":"%s","timestamp":"%s","payload":%s}',
              id, who, kind, to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), payload), 'default'
FROM generate_series($1::int, $2::int - 1) AS n,
     LATERAL (SELECT '2026-01-01T00:00:00Z'::timestamptz + n * interval '1 second' AS moment,
                     'user-' || n % 5000 AS who,
                     CASE n / 5000 % 5 WHEN 0 THEN 'LOGIN' WHEN 4 THEN 'LOGOUT' ELSE 'PRODUCT_VIEW' END AS kind,
                     format('{"productId":"p-%s","referrer":"https://example.com/?q=\\"a\\"","ip":"203.0.113.7"}',
                            n % 997) AS payload,
                     '01980000-0000-7000-8000-' || lpad(to_hex(n), 12, '0') AS id) AS made
"""


def fill(admin_url: str, first: int, end: int) -> None:
    """Stores events `first` to `end` - 1, and runs VACUUM ANALYZE."""
    asyncio.run(filled(admin_url, first, end))


async def filled(admin_url: str, first: int, end: int) -> None:
    connection = await asyncpg.connect(admin_url)
    try:
        await connection.execute(INSERT, first, end, timeout=200)
        await connection.execute("VACUUM ANALYZE read_g1.processed_events", timeout=100)
    finally:
        await connection.close()


def moment(number: int) -> str:
    """Returns the time of event `number`."""
    return (BEGIN + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%SZ")
