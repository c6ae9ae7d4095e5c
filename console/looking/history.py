"""The past that the graphs show: measured every ten seconds by one console, and kept in PostgreSQL (ops.history)."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from console.looking.joint_reads import JointReads
from console.looking.watch import Seen, Watch
from console.settings import ConsoleSettings
from operations.doctor.examine import DATABASE_AWAY
from read_model.connecting.pool import connect
from telemetry.background import running_beside
from telemetry.logs import get_logger

PACE = 10.0  # seconds
LOCK = 0x466F6F74  # of the one console that writes
COLUMNS = (
    *("accepted", "refused", "projected", "lag", "lag_seconds", "post_p50", "post_p99"),
    *("visible_p50", "visible_p99", "dead_letters", "streams"),
)
WORST = frozenset({"lag", "lag_seconds", "post_p99", "visible_p99", "dead_letters"})  # of a longer time: the most
RANGES = {"15m": (10, 900, 10), "6h": (10, 21_600, 60), "7d": (60, 604_800, 1_800)}  # rows of, seconds, step
FRESH = 5.0  # seconds that a series is served again
PARTITIONS = 100  # whose lag is kept; of a topic with more, only the sum
SHOWN = 3  # lines of single partitions, those with the most lag

_LIST = ", ".join(COLUMNS)
_OVER = ", ".join(f"{'max' if name in WORST else 'avg'}({name}) AS {name}" for name in COLUMNS)
_MINUTE = """seconds = 10 AND at > date_trunc('minute', $1::timestamptz) - interval '1 minute'
  AND at <= date_trunc('minute', $1::timestamptz)"""
INSERT = f"""
INSERT INTO ops.history (seconds, at, lags, {_LIST})
VALUES (10, $1, $2, {", ".join(f"${number + 3}" for number in range(len(COLUMNS)))}) ON CONFLICT DO NOTHING
"""  # noqa: S608 - composed of constants
MINUTE = f"""
INSERT INTO ops.history (seconds, at, lags, {_LIST})
SELECT 60, date_trunc('minute', $1::timestamptz), (
    SELECT array_agg(most ORDER BY number) FROM (
        SELECT number, max(e.lag) AS most FROM ops.history CROSS JOIN unnest(lags) WITH ORDINALITY AS e (lag, number)
        WHERE {_MINUTE} GROUP BY number) AS of_minute
), {_OVER} FROM ops.history WHERE {_MINUTE} HAVING count(*) > 0 ON CONFLICT DO NOTHING
"""  # noqa: S608 - composed of constants
FORGET = """
DELETE FROM ops.history
WHERE (seconds = 10 AND at <= $1::timestamptz - interval '6 hours')
   OR (seconds = 60 AND at <= $1::timestamptz - interval '7 days')
"""
SERIES = f"""
SELECT extract(epoch FROM date_bin($3::int * interval '1 second', at, 'epoch'))::float8 AS at, {_OVER}
FROM ops.history WHERE seconds = $1 AND at > now() - $2::int * interval '1 second'
GROUP BY 1 ORDER BY 1
"""  # noqa: S608 - composed of constants
LAGS = """
SELECT extract(epoch FROM date_bin($3::int * interval '1 second', at, 'epoch'))::float8 AS at, number - 1 AS partition,
       max(of_each.lag) AS lag
FROM ops.history CROSS JOIN unnest(lags) WITH ORDINALITY AS of_each (lag, number)
WHERE seconds = $1 AND at > now() - $2::int * interval '1 second' GROUP BY 1, 2 ORDER BY 1, 2
"""
# The last events of each partition, if they were projected a moment ago: a range of one index for each.
VISIBLE = """
SELECT percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM projected_at - recorded_at)) AS found
FROM read.checkpoints AS c CROSS JOIN LATERAL (
    SELECT recorded_at, projected_at FROM read.processed_events AS e
    WHERE e.kafka_partition = c.partition AND e.kafka_offset >= c.next_offset - 200
) AS newest WHERE c.topic = $1 AND projected_at > now() - interval '10 seconds'
"""


class History:
    """Reads the past for graphs; in one console of all, writes it."""

    def __init__(self, settings: ConsoleSettings, watch: Watch) -> None:
        self._url = settings.operator_database_url if settings.may_act() else None
        self._topic, self._watch = settings.kafka_topic, watch
        self._before: Seen | None = None
        self._read = JointReads(FRESH)
        self.last: Mapping[str, float | None] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Measures and writes during the body, where this console may."""
        async with running_beside(self._run, "history"):
            yield

    async def series(self, pool: Any, asked: str) -> bytes:
        """The columns of a range of `RANGES` as JSON, `at` first. Raises asyncpg.PostgresError, OSError."""

        async def read() -> bytes:
            rows = await pool.fetch(SERIES, *RANGES[asked])
            found = {name: [rounded(row[name]) for row in rows] for name in ("at", *COLUMNS)}
            return msgspec.json.encode(with_gaps(found, RANGES[asked][2]))

        return await self._read.once(asked, read)

    async def lags(self, pool: Any, asked: str) -> bytes:
        """The same of the partitions that were furthest behind, and of all others together."""

        async def read() -> bytes:
            rows = await pool.fetch(LAGS, *RANGES[asked])
            found = furthest_behind([(row["at"], row["partition"], row["lag"]) for row in rows])
            return msgspec.json.encode(with_gaps(found, RANGES[asked][2]))

        return await self._read.once(f"lags {asked}", read)

    async def _run(self) -> None:
        while True:
            connection = None
            try:
                if self._url is not None:
                    connection = await connect(self._url, "footfall-console-history", query_timeout=PACE)
                await self._measuring(connection)
            except DATABASE_AWAY as error:
                self.last = {}  # what was measured before is not how it is now
                get_logger("console").debug("history_not_written", error=type(error).__name__)
                await asyncio.sleep(PACE)
            finally:
                if connection is not None:
                    connection.terminate()

    async def _measuring(self, connection: asyncpg.Connection | None) -> None:
        writes = False
        while True:
            await asyncio.sleep(PACE - time.time() % PACE)
            if connection is not None and not writes:
                writes = await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK)
            now = self._watch.seen
            visible = await self._visible(connection)
            self.last = measured(self._before, now, visible)
            self._before = now if now.status is not None else self._before
            if connection is not None and writes:
                at = await connection.fetchval("SELECT now()")  # whoever reads and whoever forgets goes by that clock
                await write(connection, at, self.last, lags_of(now))

    async def _visible(self, connection: asyncpg.Connection | None) -> Sequence[float | None]:
        found = None if connection is None else await connection.fetchval(VISIBLE, self._topic)
        return found or (None, None)


def with_gaps(columns: Mapping[str, Sequence[float | None]], step: int) -> dict[str, list[float | None]]:
    """The same with a moment of which nothing is known wherever nobody measured: no line is drawn over it.

    Args:
        columns: `at` first, the moments in order.
        step: Seconds between two of them. One that is missing is a look that came a little late.
    """
    found: dict[str, list[float | None]] = {name: [] for name in columns}
    last: float | None = None
    for row in zip(*columns.values(), strict=True):
        at = row[0] or 0.0
        if last is not None and at - last > 2.5 * step:
            for name, values in found.items():
                values.append(last + step if name == "at" else None)
        for name, value in zip(found, row, strict=True):
            found[name].append(value)
        last = at
    return found


async def write(
    connection: asyncpg.Connection, at: datetime, found: Mapping[str, float | None], lags: Sequence[int] | None
) -> None:
    """Keeps one measurement, folds the minute before if it is over, and forgets what is too old."""
    async with connection.transaction():
        await connection.execute(INSERT, at, lags, *(found.get(name) for name in COLUMNS))
        await connection.execute(MINUTE, at)
        await connection.execute(FORGET, at)


def lags_of(seen: Seen) -> list[int] | None:
    """The lag of each partition, the first one first; None: not known, or of too many partitions."""
    found = sorted(seen.partitions(), key=lambda each: each.partition)
    return [each.lag for each in found] if 0 < len(found) <= PARTITIONS else None


def furthest_behind(rows: Sequence[tuple[float, int, int]]) -> dict[str, list[float | None]]:
    """Columns of moment, partition and lag: `SHOWN` partitions by name, and the most lag of all others."""
    most: dict[int, int] = {}
    moments: dict[float, dict[int, int]] = {}
    for at, partition, lag in rows:
        most[partition] = max(lag, most.get(partition, 0))
        moments.setdefault(at, {})[partition] = lag
    shown = sorted(sorted(most, key=lambda each: (-most[each], each))[:SHOWN])
    others = [partition for partition in most if partition not in shown]
    found: dict[str, list[float | None]] = {"at": list(moments)}
    found |= {f"partition {each}": [lags.get(each) for lags in moments.values()] for each in shown}
    if others:
        found["others, at most"] = [max(lags.get(each, 0) for each in others) for lags in moments.values()]
    return found


def measured(before: Seen | None, now: Seen, visible: Sequence[float | None]) -> dict[str, float | None]:
    """What is known about the time between two looks."""
    found: dict[str, float | None] = dict.fromkeys(COLUMNS)
    found["visible_p50"], found["visible_p99"] = visible
    if now.status is None:
        return found
    answered = [each for each in now.processes if not each.problem]
    streams = sum(each.total("streams_open") for each in answered) if answered else None
    found |= {"lag": now.lag(), "lag_seconds": now.lag_seconds(), "dead_letters": now.parked(), "streams": streams}
    if before is None or before.status is None or now.at == before.at:
        return found
    seconds = max(1.0, (now.at - before.at).total_seconds())
    found["accepted"] = rate(ends(before), ends(now), seconds)
    found["projected"] = rate(checkpoints(before), checkpoints(now), seconds)
    pairs = [(one, other) for one, other in zip(before.processes, now.processes, strict=False) if not other.problem]
    refused = sum(
        max(0.0, b.total(name) - a.total(name))
        for a, b in pairs
        for name in ("commands_rejected_total", "publish_failures_total")
        if not a.problem
    )
    found["refused"] = refused / seconds if pairs else None
    buckets: dict[float, float] = {}
    for a, b in pairs:
        earlier = a.buckets("publish_round_seconds_bucket")
        for bound, value in b.buckets("publish_round_seconds_bucket").items():
            buckets[bound] = buckets.get(bound, 0.0) + max(0.0, value - earlier.get(bound, 0.0))
    found["post_p50"], found["post_p99"] = quantile(buckets, 0.5), quantile(buckets, 0.99)
    return found


def ends(seen: Seen) -> int:
    """Where the log ends, over all partitions."""
    return sum(each.end_offset for each in seen.partitions())


def checkpoints(seen: Seen) -> int:
    """How far the active generation is, over all partitions."""
    return sum(each.checkpoint or 0 for each in seen.partitions())


def rate(before: float, now: float, seconds: float) -> float | None:
    """What a second brought; None if it fell: then both count in different histories."""
    return (now - before) / seconds if now >= before else None


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """The value below which this share is, inside its bucket in proportion; None if nothing was counted."""
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if not total:
        return None
    low, counted = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= share * total:
            high = low if math.isinf(bound) else bound
            part = buckets[bound] - counted
            return low + (high - low) * ((share * total - counted) / part if part else 1.0)
        low, counted = bound, buckets[bound]
    return low


def rounded(value: float | None) -> float | None:
    """To four digits: more is not seen in a graph, and costs bytes. Moments keep theirs."""
    return None if value is None else value if value > 1e8 else float(f"{value:.4g}")
