"""Reads pages of the log in log order, from a cursor's progress up to the checkpoint of each partition.

Rows and checkpoints are committed together. So in one snapshot, every event below a checkpoint is visible, and a page
that ends at a checkpoint or before it skips nothing. Redriven events appear below a checkpoint. The ledger of late
events lists them in commit order, and a cursor also says how far it has read the ledger (docs/decisions/0016).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import asyncpg
import msgspec

from query_side.api.pending_bytes import PAGE_BYTES, UNMEASURED, further, size_of
from query_side.log_positions.positions import (
    ORIGIN,
    PartitionProgress,
    ProgressByPartition,
    ReaderPosition,
)
from query_side.log_positions.served_history import (
    HISTORY_ID,
    HISTORY_OF_CHECKPOINT,
    ServedHistory,
    check,
    served_history,
)
from read_model.names import READ
from web.policies.decisions import RefusedError
from web.policies.principal import DEFAULT_TENANT

# Parameters: $1 whose events; $2 topic; $3-$5 the cursor; $6-$8 how far to read, if $9 is true (else up to the
# checkpoints); $10 limit.
#
# `log`: for each partition, the offsets to read from and to. After a forced promotion to a generation that lags, a
# ledger entry may lie at an offset that the generation has not reached; this entry and those after it must wait.
# `found`: for each partition, late events first, then events of the log. A late event at or above the cursor's offset
# is read from the log. An event of the log that a bounded reader will get later as a late event is left to the ledger.
# `merged`: merges the partitions by the records' times, as far as each partition's own order allows.
PRODUCT_OF = """CASE WHEN e.meaning <> '' THEN nullif(e.product_id, '')
                    WHEN e.event_type = 'PRODUCT_VIEW' THEN e.payload ->> 'productId' END"""
_LATE = f"""(SELECT l.number, l.kafka_offset, e.*
         FROM ops.late_events AS l
         {{joined}} JOIN LATERAL (
             SELECT e.recorded_at, e.{{mine}} AS mine, e.tenant_id, e.user_id, e.event_type,
                    {PRODUCT_OF} AS product_id, e.event_json
             FROM {READ}.processed_events AS e
             WHERE e.kafka_partition = l.partition AND e.kafka_offset = l.kafka_offset AND e.kafka_topic = $2{{only}}
             LIMIT 1) AS e ON true
         WHERE l.topic = $2 AND l.partition = log.partition{{whose}} AND l.number > log.late
           AND l.number <= log.late_until AND l.kafka_offset < log.next_offset
         ORDER BY l.number LIMIT $10)"""  # noqa: S608 - composed of constants
_PAGE = f"""
WITH reader AS (
    SELECT * FROM unnest($3::int[], $4::bigint[], $5::bigint[]) AS r(partition, next_offset, late)
), bound AS (
    SELECT * FROM unnest($6::int[], $7::bigint[], $8::bigint[]) AS b(partition, next_offset, late)
), log AS MATERIALIZED (
    SELECT c.partition, coalesce(r.next_offset, 0) AS next_offset, coalesce(r.late, 0) AS late,
           CASE WHEN $9 THEN least(c.next_offset, coalesce(b.next_offset, 0)) ELSE c.next_offset END AS until,
           least(CASE WHEN $9 THEN coalesce(b.late, 0) ELSE coalesce((
               SELECT max(l.number) FROM ops.late_events AS l WHERE l.topic = $2 AND l.partition = c.partition), 0) END,
               (SELECT min(l.number) - 1 FROM ops.late_events AS l
                WHERE l.topic = $2 AND l.partition = c.partition AND l.number > coalesce(r.late, 0)
                  AND l.kafka_offset >= c.next_offset AND l.kafka_offset < r.next_offset)) AS late_until,
           {HISTORY_ID}, history.ids, history.number AS history_number,
           (SELECT max(f.until_offset) FROM {READ}.forgotten AS f
            WHERE f.{{mine}} AND f.kafka_partition = c.partition) AS forgotten
    FROM {READ}.checkpoints AS c {HISTORY_OF_CHECKPOINT}
    LEFT JOIN reader AS r USING (partition) LEFT JOIN bound AS b USING (partition)
    WHERE c.topic = $2
), found AS (
    SELECT log.partition, log.late_until, came.*,
           max(came.recorded_at) OVER (PARTITION BY log.partition ORDER BY came.number NULLS LAST, came.kafka_offset)
               AS merge_key
    FROM log CROSS JOIN LATERAL (
        {{late}}
        UNION ALL
        (SELECT NULL, e.kafka_offset, e.recorded_at, e.{{mine}} AS mine, e.tenant_id, e.user_id, e.event_type,
                {PRODUCT_OF} AS product_id, e.event_json
         FROM {READ}.processed_events AS e
         WHERE e.kafka_topic = $2 AND e.kafka_partition = log.partition{{only}}
           AND e.kafka_offset >= log.next_offset AND e.kafka_offset < log.until
           AND NOT EXISTS (SELECT FROM ops.late_events AS l WHERE l.topic = $2 AND l.partition = log.partition
                             AND l.kafka_offset = e.kafka_offset AND l.number > log.late_until)
         ORDER BY e.kafka_offset LIMIT $10)
    ) AS came
), merged AS (
    SELECT *, row_number() OVER (ORDER BY merge_key NULLS FIRST, partition, number NULLS LAST, kafka_offset) AS place
    FROM found ORDER BY place LIMIT $10
)
SELECT partition, NULL::bigint AS number, until AS kafka_offset, late_until, NULL::text AS event_json,
       NULL::text AS tenant_id, NULL::text AS user_id, NULL::text AS event_type, NULL::text AS product_id, 0 AS place,
       topic_id, ids, history_number, forgotten
FROM log
UNION ALL
SELECT partition, number, kafka_offset, late_until, CASE WHEN mine THEN event_json END,
       CASE WHEN mine THEN tenant_id END, user_id, event_type, product_id, place,
       NULL, NULL, NULL, NULL
FROM merged
ORDER BY place
"""  # noqa: S608 - composed of constants

# Of all tenants, what $1 lists of theirs is told; the rest of the log is passed over, entry by entry.
_ANY = "tenant_id = ANY($1::text[])"
PAGE = _PAGE.format(late=_LATE.format(joined="LEFT", mine=_ANY, only="", whose=""), mine=_ANY, only="")
# Of one tenant that is not the default: rows and late events of others are not looked at. The condition on `default` is
# the index's. Some late events are nobody's yet.
_ONE, _ONLY = "tenant_id = $1", " AND e.tenant_id = $1 AND e.tenant_id <> 'default'"
_LATE_OF_ONE = [
    _LATE.format(joined="INNER", mine=_ONE, only=_ONLY, whose=whose)
    for whose in (" AND l.tenant_id = $1", " AND l.tenant_id IS NULL")
]
PAGE_OF_TENANT = _PAGE.format(late="\n        UNION ALL\n        ".join(_LATE_OF_ONE), mine=_ONE, only=_ONLY)

FORGOTTEN_UNTIL = f"SELECT kafka_partition, until_offset FROM {READ}.forgotten WHERE tenant_id = $1"  # noqa: S608
FORGOTTEN = (
    "Events after this cursor were deleted because of their age, so going on from it would miss them. "
    "Start again with since=beginning, since=now or a time."
)


class ForgottenError(RefusedError):
    """A cursor from before events that were deleted because of their age: who goes on from it would miss them."""

    def __init__(self) -> None:
        super().__init__(410, FORGOTTEN)


class LogEntry(NamedTuple):
    """One entry of the log. `reached`: how far its partition is read after it. `event`: JSON; None: nothing to deliver.

    Without an event, nothing else of the entry may be told either: it may be another tenant's.
    """

    partition: int
    reached: PartitionProgress
    event: str | None
    tenant_id: str | None
    user_id: str | None
    event_type: str | None
    product_id: str | None


class Page(msgspec.Struct, frozen=True):
    """The entries of the log between two readers' progress. `more`: whether further entries were already available."""

    start: ProgressByPartition
    entries: list[LogEntry]
    end: ProgressByPartition
    more: bool
    history: ServedHistory = ServedHistory()
    forgotten: Mapping[int, int] = msgspec.field(default_factory=dict)  # by partition: the end of what was deleted

    def walk(self) -> Iterator[tuple[LogEntry, ProgressByPartition]]:
        """Yields each entry that is an event, with the reader's progress after it, which the next step changes."""
        at = dict(self.start)
        for entry in self.entries:
            at[entry.partition] = entry.reached
            if entry.event is not None:
                yield entry, at

    def cut(self, most: int) -> "Page":
        """Returns the beginning of the page with at most `most` bytes of events, but at least one entry."""
        size, at = 0, dict(self.start)
        for number, entry in enumerate(self.entries):
            size += size_of(entry.event or "")
            if number and size > most:
                return Page(self.start, self.entries[:number], at, more=True, history=self.history)
            at[entry.partition] = entry.reached
        return self

    def size(self) -> int:
        """Returns the size of the events in bytes."""
        return sum(size_of(entry.event or "") for entry in self.entries)

    def events(self) -> list[str]:
        """Returns the JSON of the events, in order."""
        return [entry.event for entry in self.entries if entry.event is not None]


async def read_bounded(pool: asyncpg.Pool, tenant_id: str, topic: str, since: ReaderPosition, limit: int) -> Page:
    """Reads at most `limit` entries after `since`, and at most about `PAGE_BYTES` bytes of the tenant's events."""
    first = await read_page(pool, tenant_id, topic, since, min(limit, UNMEASURED))
    count = further(limit, len(first.entries), first.size())
    if not first.more or not count:
        return first
    rest = await read_page(pool, tenant_id, topic, ReaderPosition(first.end, first.history.tag), count)
    return Page(since.at, first.entries + rest.entries, rest.end, rest.more, rest.history).cut(PAGE_BYTES)


async def read_page(
    pool: asyncpg.Pool,
    tenant_id: str,
    topic: str,
    since: ReaderPosition,
    limit: int,
    until: ProgressByPartition | None = None,
) -> Page:
    """Reads a page of the log for one tenant: see `read_page_of_all`.

    Raises:
        AnotherHistoryError: the snapshot belongs to another history than `since`.
        ForgottenError: events behind `since` were deleted because of their age.
    """
    if tenant_id == DEFAULT_TENANT:
        page = await read_page_of_all(pool, [tenant_id], topic, since, limit, until)
    else:
        page = await _read(pool, PAGE_OF_TENANT, tenant_id, topic, since, limit, until)
    refuse_forgotten(since, page.forgotten)
    return page


async def check_kept(pool: asyncpg.Pool, tenant_id: str, since: ReaderPosition) -> None:
    """Raises ForgottenError if events of the tenant behind a cursor were deleted because of their age."""
    refuse_forgotten(since, {row[0]: row[1] for row in await pool.fetch(FORGOTTEN_UNTIL, tenant_id)})


def refuse_forgotten(since: ReaderPosition, forgotten: Mapping[int, int]) -> None:
    """Raises ForgottenError. `forgotten`: by partition, the end of what was deleted."""
    if since.tag is not None and any(reached.next_offset < forgotten.get(p, 0) for p, reached in since.at.items()):
        raise ForgottenError


async def read_page_of_all(
    pool: asyncpg.Pool,
    tenants: Sequence[str],
    topic: str,
    since: ReaderPosition,
    limit: int,
    until: ProgressByPartition | None = None,
) -> Page:
    """Reads a page of the log in one snapshot.

    Args:
        pool: the pool of database connections.
        tenants: those whose events are told; other entries are there, and say nothing.
        topic: the topic's name.
        since: the reader's position.
        limit: entries at most.
        until: read no further than this progress; None: up to the checkpoints.

    Raises:
        AnotherHistoryError: the snapshot belongs to another history than `since`.
    """
    return await _read(pool, PAGE, list(tenants), topic, since, limit, until)


async def _read(
    pool: asyncpg.Pool,
    statement: str,
    whose: str | list[str],
    topic: str,
    since: ReaderPosition,
    limit: int,
    until: ProgressByPartition | None,
) -> Page:
    bound = (*_arrays(until or {}), until is not None)
    rows = await pool.fetch(statement, whose, topic, *_arrays(since.at), *bound, limit)
    ends = {
        row["partition"]: PartitionProgress(row["kafka_offset"], row["late_until"]) for row in rows if row["place"] == 0
    }
    history = served_history((row["topic_id"], row["ids"], row["history_number"]) for row in rows[: len(ends)])
    check(since.tag, history)
    entries, at = [], dict(since.at)
    for row in rows[len(ends) :]:
        reached = _progress_after(row, at.get(row["partition"], ORIGIN))
        at[row["partition"]] = reached
        texts = (row["event_json"], row["tenant_id"], row["user_id"], row["event_type"], row["product_id"])
        entries.append(LogEntry(row["partition"], reached, *texts))
    if len(entries) < limit:  # every partition is read to its end
        at.update((p, _later(end, at.get(p, ORIGIN))) for p, end in ends.items())
    forgotten = {row["partition"]: row["forgotten"] for row in rows[: len(ends)] if row["forgotten"]}
    return Page(since.at, entries, at, len(entries) == limit, history, forgotten)


def _progress_after(row: asyncpg.Record, before: PartitionProgress) -> PartitionProgress:
    if row["number"] is not None:
        return PartitionProgress(before.next_offset, row["number"])
    return PartitionProgress(row["kafka_offset"] + 1, max(row["late_until"], before.late))


def _later(one: PartitionProgress, other: PartitionProgress) -> PartitionProgress:
    return PartitionProgress(max(one.next_offset, other.next_offset), max(one.late, other.late))


def _arrays(progress: ProgressByPartition) -> tuple[list[int], list[int], list[int]]:
    return (
        list(progress),
        [reached.next_offset for reached in progress.values()],
        [reached.late for reached in progress.values()],
    )
