"""A read model with very many rows, made by PostgreSQL itself: for tests of size and speed.

A twin tenant has a tenth of them, under the same ids: no answer may have one of its rows.
"""

import asyncio

import asyncpg

from tests.patience import PATIENCE
from tests.stored_events import TWIN, TWINS_PARTITION

# The events look like the demo's product views, with the characters that COPY has to escape.
INSERT_MANY = """
INSERT INTO read_g1.processed_events (kafka_offset, occurred_at, recorded_at, event_id, kafka_partition, kafka_topic,
                                      user_id, event_type, payload, event_json, tenant_id)
SELECT n, moment, moment, id::uuid, $2, 't', 'user-' || n % 500, 'PRODUCT_VIEW', '{}',
       format('{"eventId":"%s","userId":"user-%s","eventType":"PRODUCT_VIEW","timestamp":"%s","payload":'
              '{"productId":"p-%s","referrer":"https://example.com/?q=\\"a\\\\b\\"","ip":"203.0.113.7"}}',
              id, n % 500, to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), n), $3
FROM generate_series(0, $1::int - 1) AS n,
     LATERAL (SELECT '2026-01-01T00:00:00Z'::timestamptz + n * interval '1 second' AS moment,
                     '01980000-0000-7000-8000-' || lpad(to_hex(n), 12, '0') AS id) AS made
"""


def event_path(number: int) -> str:
    """Where the query side shows event `number`."""
    return f"/events/01980000-0000-7000-8000-{number:012x}"


def fill(admin_url: str, count: int) -> None:
    """Stores events 0 to count - 1, one a second from the first of January 2026."""
    asyncio.run(_fill(admin_url, count))


async def _fill(admin_url: str, count: int) -> None:
    connection = await asyncpg.connect(admin_url)
    try:
        await connection.execute(INSERT_MANY, count, 0, "default", timeout=PATIENCE)
        await connection.execute(INSERT_MANY, count // 10, TWINS_PARTITION, TWIN, timeout=PATIENCE)
        await connection.execute("ANALYZE read_g1.processed_events")
    finally:
        await connection.close()
