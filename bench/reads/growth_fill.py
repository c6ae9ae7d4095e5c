"""Fills databases with as many events as the benchmarks of growth ask for, as the projector would have stored them.

A larger database is a copy of the next smaller one and more events. Ten events a second, one user for a hundred events,
each user anywhere in time: so indexes by user are written at random places, as they are in life.
"""

import asyncio

import asyncpg

from bench.databases import drop_database
from bench.projecting.drain import in_database
from bench.stage import Stage
from read_model.names import GENERATION

TOPIC = "growth"
PARTITIONS = 6
PER_SECOND = 10
PER_USER = 100
AT_ONCE = 500_000
TIMEOUT = 3_600.0  # seconds for one statement

# Event n: whose it is depends on how many there are. Its id begins with its time, as those of the command side do.
MADE = f"""
generate_series($1::bigint, $2::bigint - 1) AS n,
LATERAL (SELECT timestamptz '2026-01-01T00:00:00Z' + n * interval '1 second' / {PER_SECOND} AS moment,
                'user-' || (hashint8(n) & 2147483647) % greatest($2 / {PER_USER}, 1) AS who,
                CASE n % 5 WHEN 0 THEN 'LOGIN' WHEN 4 THEN 'LOGOUT' ELSE 'PRODUCT_VIEW' END AS kind,
                format('{{"productId":"p-%s","referrer":"https://example.com/?q=\\"a\\"","ip":"203.0.113.7"}}',
                       n % 997) AS payload) AS made,
LATERAL (SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || '70008'
                 || lpad(to_hex(n), 15, '0'))::uuid AS id) AS named
"""
EVENTS = f"""
INSERT INTO {GENERATION}.processed_events (kafka_offset, occurred_at, recorded_at, event_id, kafka_partition,
    kafka_topic, user_id, event_type, payload, event_json, tenant_id)
SELECT n / {PARTITIONS}, moment, moment, id, n % {PARTITIONS}, '{TOPIC}', who, kind, payload::jsonb,
       format('{{"eventId":"%s","userId":"%s","eventType":"%s","timestamp":"%s","payload":%s}}',
              id, who, kind, to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), payload), 'default'
FROM {MADE}
"""
HOURS = f"""
INSERT INTO {GENERATION}.activity_hourly_users (hour, kafka_partition, types, tenant_id, user_id)
SELECT date_trunc('hour', moment), n % {PARTITIONS}, 4, 'default', who FROM {MADE} WHERE n % 4 = 1
ON CONFLICT DO NOTHING
"""
SESSIONS = f"""
INSERT INTO {GENERATION}.user_sessions (started_at, ended_at, views, session_id, kafka_partition, ended_by, tenant_id,
    user_id, products)
SELECT moment, moment + interval '5 minutes', 3, id, n % {PARTITIONS}, 'LOGOUT', 'default', who, ARRAY['p-1', 'p-2']
FROM {MADE} WHERE n % 5 = 0
"""
USERS = f"""
INSERT INTO {GENERATION}.user_activity (first_seen, last_seen, logins, logouts, product_views, kafka_partition,
    logged_in, tenant_id, user_id)
SELECT '2026-01-01', '2026-01-02', 20, 20, 60, user_number % {PARTITIONS}, false, 'default', 'user-' || user_number
FROM generate_series($1::bigint / {PER_USER}, $2::bigint / {PER_USER} - 1) AS user_number ON CONFLICT DO NOTHING
"""
CHECKPOINTS = f"""
INSERT INTO {GENERATION}.checkpoints (topic, partition, next_offset, epoch, owner, stored)
SELECT '{TOPIC}', partition, $1 / {PARTITIONS} + 1, 1, 'bench', $1 / {PARTITIONS}
FROM generate_series(0, {PARTITIONS} - 1) AS partition
ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset
"""


def database_of(events: int) -> str:
    """Returns the name of the database with so many events."""
    return f"growth_{events}"


def fill(stage: Stage, sizes: list[int]) -> None:
    """Makes a database for each size that another benchmark has not made already, the smallest first."""
    asyncio.run(_fill_all(stage, sizes))


async def _fill_all(stage: Stage, sizes: list[int]) -> None:
    """Each database gets its name when it is full: a benchmark that ends with an error leaves none half full."""
    stored, model = 0, "template0"
    for events in sorted(sizes):
        name = database_of(events)
        if not await _administer(stage, f"SELECT FROM pg_database WHERE datname = '{name}'"):
            part = f"{name}_part"
            await drop_database(stage.stack.admin_url, part)
            await _administer(stage, f"CREATE DATABASE {part} TEMPLATE {model} STRATEGY FILE_COPY")
            url = in_database(stage.stack.admin_url, part)
            if not stored:
                await asyncio.to_thread(stage.migrated, url)
            await fill_one(stage, url, stored, events)
            await _administer(stage, f"ALTER DATABASE {part} RENAME TO {name}")
        stored, model = events, name


async def drop(stage: Stage, events: int) -> None:
    """Drops a database from which events were deleted: the next benchmark gets a full one."""
    await drop_database(stage.stack.admin_url, database_of(events))


async def _administer(stage: Stage, statement: str) -> list[asyncpg.Record]:
    admin = await asyncpg.connect(stage.stack.admin_url)
    try:
        found: list[asyncpg.Record] = await admin.fetch(statement)
        return found
    finally:
        await admin.close()


async def fill_one(stage: Stage, url: str, first: int, end: int, users: int = 0) -> None:
    """Stores the events `first` to `end` - 1, then runs VACUUM ANALYZE. `users`: of as many events, unless of `end`."""
    spans = [(begin, min(begin + AT_ONCE, end)) for begin in range(first, end, AT_ONCE)]
    half = len(spans) // 2
    await asyncio.gather(*(_fill_spans(stage, url, part, users or end) for part in (spans[:half], spans[half:])))
    connection = await asyncpg.connect(url)
    try:
        if not users:
            await connection.execute(USERS, first, end, timeout=TIMEOUT)
        await connection.execute(CHECKPOINTS, end)
        await connection.execute("VACUUM ANALYZE", timeout=TIMEOUT)
    finally:
        await connection.close()


async def _fill_spans(stage: Stage, url: str, spans: list[tuple[int, int]], events: int) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET synchronous_commit = off")
        for begin, end in spans:
            for statement in (EVENTS, HOURS, SESSIONS):
                await connection.execute(statement.replace("$2 /", f"{events} /"), begin, end, timeout=TIMEOUT)
            stage.say(f"stored events {begin:,} to {end:,} of {events:,}")
    finally:
        await connection.close()
