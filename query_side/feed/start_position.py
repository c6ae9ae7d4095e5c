"""Where a reader of the feed begins: at a cursor, at a time, at the beginning or now."""

from datetime import datetime, timedelta

import asyncpg

from query_side.api.parameters import FIRST_MOMENT, Parameters
from query_side.api.responses import RefusedError
from query_side.feed.pages import place_of
from query_side.log_positions.cursors import Cursors
from query_side.log_positions.positions import ORIGIN, UNBEGUN, Mark, Place, stands
from read_model.names import READ

BEGINNING, NOW = "beginning", "now"

# Records are stamped where they are made: as a rule in order, but by clocks that differ, and a producer may try again
# for half a minute. So the search by halves stops this much earlier, and the rest is read.
DISORDER = timedelta(seconds=60)

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


async def beginning_of(pool: asyncpg.Pool, cursors: Cursors, topic: str, parameters: Parameters, default: str) -> Place:
    """The place that the parameter `since` means. Raises RefusedError, 400."""
    since = parameters.raw("since")
    since = default if since is None else since
    if since == BEGINNING:
        return UNBEGUN
    if since == NOW:
        return (await stands(pool, topic)).place()
    found = place_of(cursors, topic, since)
    if found is not None:
        return found
    if len(since) > 40:  # longer than any time
        raise RefusedError(
            400, errors=["Parameter `since` is no cursor of this feed: it was changed, or is another's."]
        )
    moment = parameters.moment("since")
    parameters.check()
    assert moment is not None
    return await at_time(pool, topic, moment)


async def at_time(pool: asyncpg.Pool, topic: str, moment: datetime) -> Place:
    """Of each partition the first record of that moment or later, by the time at which records were made.

    Events that were late before that are not of interest: the vector is past them.
    """
    stand = await stands(pool, topic)
    now = stand.at
    earlier = moment - min(DISORDER, moment - FIRST_MOMENT)
    low = dict.fromkeys(now, 0)
    high = {partition: mark.next_offset for partition, mark in now.items()}
    while open_ones := [partition for partition in now if low[partition] < high[partition]]:
        middle = [(low[partition] + high[partition]) // 2 for partition in open_ones]
        until = [now[partition].next_offset for partition in open_ones]
        probed = await pool.fetch(PROBE, topic, earlier, open_ones, middle, until)
        reached = {row["partition"]: row["reached"] for row in probed}
        for partition, offset in zip(open_ones, middle, strict=True):
            if reached[partition] is False:
                low[partition] = offset + 1
            else:  # there is nothing from here on, or what is there is late enough
                high[partition] = offset
    until = [mark.next_offset for mark in now.values()]
    first = await pool.fetch(FIRST, topic, moment, list(low), list(low.values()), until)
    at = {partition: Mark(offset, now.get(partition, ORIGIN).late) for partition, offset in map(tuple, first)}
    return Place(at, stand.history.tag)
