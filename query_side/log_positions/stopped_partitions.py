"""Names the partitions whose new events do not become visible, for the health of a side that reads (decision 30)."""

import asyncpg

from read_model.names import READ

STOPPED = f"""
SELECT partition, stopped_reason FROM {READ}.checkpoints
WHERE topic = $1 AND stopped_reason IS NOT NULL ORDER BY partition
"""  # noqa: S608 - composed of constants


async def stopped_partitions(pool: asyncpg.Pool, topic: str) -> str:
    """Returns a sentence with the number of stopped partitions and the first one's reason; empty if none has stopped.

    A reason holds codes, offsets and commands, and no value of an event (projector/liveness/stops.py).
    """
    rows = await pool.fetch(STOPPED, topic)
    if not rows:
        return ""
    what = "1 partition has stopped: its" if len(rows) == 1 else f"{len(rows)} partitions have stopped: their"
    partition, reason = rows[0]
    return f"{what} new events are not visible. Partition {partition}: {reason}"
