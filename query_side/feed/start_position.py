"""Finds the start position of a reader of the feed: a cursor, a time, the beginning of the log, or now."""

from datetime import datetime, timedelta

import asyncpg

from query_side.api.parameters import FIRST_MOMENT, Parameters
from query_side.feed.feed_cursors import position_of_cursor
from query_side.log_positions.cursors import TenantCursors
from query_side.log_positions.positions import (
    LOG_BEGINNING,
    ORIGIN,
    PartitionProgress,
    ReaderPosition,
    read_model_state,
)
from read_model.names import READ
from web.policies.decisions import RefusedError

BEGINNING, NOW = "beginning", "now"

# Producers set the timestamps of records. These are usually in order, but clocks differ, and a producer may retry for
# half a minute. So the binary search looks for a time this much earlier, and the records after it are scanned.
DISORDER = timedelta(seconds=60)

# The two statements below say at which offset of the log a time is, and nothing of a row. They compare no tenant, and
# need not: a time is at one place of the log, whoever asks, and to look for a tenant's own first row there would mean
# to walk those of others. What they find leaves the process only in a cursor, which is sealed for every tenant but the
# default, and a page that begins there has this tenant's rows only (docs/decisions/0037).
PROBE = f"""
SELECT asked.partition, (
    SELECT e.recorded_at >= $2 FROM {READ}.processed_events AS e
    WHERE e.kafka_topic = $1 AND e.kafka_partition = asked.partition
      AND e.kafka_offset >= asked.kafka_offset AND e.kafka_offset < asked.until
    ORDER BY e.kafka_offset LIMIT 1) AS reached
FROM unnest($3::int[], $4::bigint[], $5::bigint[]) AS asked(partition, kafka_offset, until)
"""  # noqa: S608 - composed of constants

FIRST = f"""
SELECT asked.partition, coalesce((
    SELECT e.kafka_offset FROM {READ}.processed_events AS e
    WHERE e.kafka_topic = $1 AND e.kafka_partition = asked.partition
      AND e.kafka_offset >= asked.kafka_offset AND e.kafka_offset < asked.until AND e.recorded_at >= $2
    ORDER BY e.kafka_offset LIMIT 1), asked.until) AS next_offset
FROM unnest($3::int[], $4::bigint[], $5::bigint[]) AS asked(partition, kafka_offset, until)
"""  # noqa: S608 - composed of constants


async def start_position(
    pool: asyncpg.Pool, cursors: TenantCursors, topic: str, parameters: Parameters, default: str
) -> ReaderPosition:
    """Returns the start position that the parameter `since` names. Raises RefusedError (400).

    Args:
        pool: the pool of database connections.
        cursors: decodes the tenant's cursors.
        topic: the topic's name.
        parameters: the request's parameters.
        default: the value of `since` if the request has none.
    """
    since = parameters.raw("since")
    since = default if since is None else since
    if since == BEGINNING:
        return LOG_BEGINNING
    if since == NOW:
        return (await read_model_state(pool, topic)).reader_position()
    found = position_of_cursor(cursors, topic, since)
    if found is not None:
        return found
    if len(since) > 40:  # longer than any time
        raise RefusedError(
            400, errors=["Parameter `since` is not a cursor of this feed: it was changed, or is from another feed."]
        )
    moment = parameters.moment("since")
    parameters.check()
    assert moment is not None
    return await at_time(pool, topic, moment)


async def at_time(pool: asyncpg.Pool, topic: str, moment: datetime) -> ReaderPosition:
    """Returns the position before the first record of each partition with this timestamp or a later one.

    The position counts all late events so far as read.
    """
    state = await read_model_state(pool, topic)
    now = state.at
    earlier = moment - min(DISORDER, moment - FIRST_MOMENT)
    low = dict.fromkeys(now, 0)
    high = {partition: reached.next_offset for partition, reached in now.items()}
    while open_ones := [partition for partition in now if low[partition] < high[partition]]:
        middle = [(low[partition] + high[partition]) // 2 for partition in open_ones]
        until = [now[partition].next_offset for partition in open_ones]
        probed = await pool.fetch(PROBE, topic, earlier, open_ones, middle, until)
        reached = {row["partition"]: row["reached"] for row in probed}
        for partition, offset in zip(open_ones, middle, strict=True):
            if reached[partition] is False:
                low[partition] = offset + 1
            else:  # there is no record from here on, or its timestamp is late enough
                high[partition] = offset
    until = [reached.next_offset for reached in now.values()]
    first = await pool.fetch(FIRST, topic, moment, list(low), list(low.values()), until)
    at = {
        partition: PartitionProgress(offset, now.get(partition, ORIGIN).late) for partition, offset in map(tuple, first)
    }
    return ReaderPosition(at, state.history.tag)
