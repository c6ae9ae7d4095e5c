"""Compares the table of events with the same table in partitions by time, as TimescaleDB's chunks are.

A unique index over partitions must contain the time, so nothing keeps an event id unique here.
"""

import asyncio
import time
from typing import Any

import asyncpg

from bench.projecting.drain import fresh_database
from bench.reads.stored import USERS, filled
from bench.result import Result, compared
from bench.stage import Stage

EVENTS = 1_000_000  # one a second: 46 partitions of six hours
ROUNDS, BATCH = 60, 1_000
COLUMNS = """kafka_offset, occurred_at, recorded_at, event_id, kafka_partition, kafka_topic, user_id, event_type,
payload, event_json, tenant_id"""
PARTITIONED = f"""
CREATE TABLE parts (LIKE read_g1.processed_events INCLUDING DEFAULTS) PARTITION BY RANGE (occurred_at);
DO $$ DECLARE start timestamptz; definition text; BEGIN
FOR start IN SELECT generate_series('2026-01-01Z'::timestamptz, '2026-01-13Z'::timestamptz, '6 hours') LOOP
    EXECUTE format('CREATE TABLE %I PARTITION OF parts FOR VALUES FROM (%L) TO (%L)',
                   'parts_' || to_char(start, 'DDHH24'), start, start + interval '6 hours');
END LOOP;
FOR definition IN SELECT indexdef FROM pg_indexes WHERE schemaname = 'read_g1' AND tablename = 'processed_events' LOOP
    EXECUTE regexp_replace(replace(definition, 'UNIQUE ', ''), 'INDEX \\S+ ON (ONLY )?\\S+', 'INDEX ON parts');
END LOOP; END $$;
INSERT INTO parts ({COLUMNS}) SELECT {COLUMNS} FROM read_g1.processed_events;
"""
BY_USER = """
SELECT event_json FROM {} WHERE tenant_id = 'default' AND user_id = $1
ORDER BY occurred_at DESC, event_id DESC LIMIT 100
"""
BY_TIME = """
SELECT event_json FROM {} WHERE tenant_id = 'default'
AND occurred_at >= '2026-01-01Z'::timestamptz + $1::int * interval '1 second' ORDER BY occurred_at, event_id LIMIT 100
"""
LOOKUP = """
SELECT event_json FROM {} WHERE event_id = ('01980000-0000-7000-8000-' || lpad(to_hex($1::int), 12, '0'))::uuid
"""
READS: dict[str, tuple[str, Any]] = {
    "page_by_user": (BY_USER, lambda n: f"user-{n * 37 % USERS}"),
    "page_by_time": (BY_TIME, lambda n: n * 15_013 % EVENTS),
    "lookup": (LOOKUP, lambda n: n * 15_013 % EVENTS),
}
BATCHES = f"""
INSERT INTO {{}} ({COLUMNS})
SELECT {COLUMNS.replace("event_id", "gen_random_uuid()").replace("kafka_offset", "kafka_offset + 10000000 + $1::int")}
FROM read_g1.processed_events WHERE kafka_offset BETWEEN {EVENTS - BATCH} AND {EVENTS - 1}
"""
TABLES = ("read_g1.processed_events", "parts")


def time_partitions(stage: Stage) -> list[Result]:
    """A million events in partitions by time, beside the plain table: a batch, pages, a lookup, deleting the oldest."""
    return asyncio.run(measured(stage, fresh_database(stage, stage.stack.admin_url)))


async def measured(stage: Stage, url: str) -> list[Result]:
    await filled(url, 0, EVENTS)
    connection = await asyncpg.connect(url, command_timeout=600)
    try:
        await connection.execute(PARTITIONED)
        await connection.execute("VACUUM ANALYZE")
        found = {name: await timed(connection, sql, of) for name, (sql, of) in READS.items()}
        found["batch"] = await timed(connection, BATCHES, lambda n: n * BATCH)
        found["delete_six_hours"] = await deleted(connection)
    finally:
        await connection.close()
    rows = [
        compared(f"time_partitions_{name}", "ms", parts, "one table", plain) for name, (plain, parts) in found.items()
    ]
    for row in rows:
        stage.say(f"{row.name}: {row.value} ms, {row.ratio} of one table")
    return rows


async def timed(connection: asyncpg.Connection, sql: str, argument: Any) -> tuple[list[float], list[float]]:
    """Milliseconds of a statement on both tables, in turn; the first ones are not counted."""
    statements = [await connection.prepare(sql.format(table)) for table in TABLES]
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS):
        for statement, times in zip(statements, taken, strict=True):
            began = time.perf_counter()
            await statement.fetch(argument(number))
            times.append(1e3 * (time.perf_counter() - began))
    return taken[0][ROUNDS // 4 :], taken[1][ROUNDS // 4 :]


async def deleted(connection: asyncpg.Connection) -> tuple[list[float], list[float]]:
    """Milliseconds to get rid of the oldest six hours: DELETE, without the VACUUM that follows, and DROP."""
    began = time.perf_counter()
    await connection.execute("DELETE FROM read_g1.processed_events WHERE occurred_at < '2026-01-01 06:00Z'")
    between = time.perf_counter()
    await connection.execute("DROP TABLE parts_0100")
    return [1e3 * (between - began)], [1e3 * (time.perf_counter() - between)]
