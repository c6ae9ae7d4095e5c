"""Reads pages of the log in log order, from a cursor's vector up to the checkpoint of each partition.

Rows and checkpoints are committed together. So in one snapshot, every event below a checkpoint is visible, and a page
that ends at a checkpoint or before it skips nothing. Redriven events appear below a checkpoint. The ledger of late
events lists them in commit order, and a cursor also says how far it has read the ledger (docs/decisions/0016).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import asyncpg
import msgspec

from query_side.api.pending_bytes import PAGE_BYTES, UNMEASURED, further, size_of
from query_side.log_positions.cursors import Cursors, TenantCursors
from query_side.log_positions.positions import LOG_BEGINNING, ORIGIN, Mark, ReaderPosition, Vector
from query_side.log_positions.served_history import (
    HISTORY_OF_CHECKPOINT,
    UNTAGGED,
    ServedHistory,
    check,
    served_history,
)
from read_model.names import READ
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
           c.topic_id, history.ids, history.number AS history_number
    FROM {READ}.checkpoints AS c {HISTORY_OF_CHECKPOINT}
    LEFT JOIN reader AS r USING (partition) LEFT JOIN bound AS b USING (partition)
    WHERE c.topic = $2
), found AS (
    SELECT log.partition, log.late_until, came.*,
           max(came.recorded_at) OVER (PARTITION BY log.partition ORDER BY came.number NULLS LAST, came.kafka_offset)
               AS merge_key
    FROM log CROSS JOIN LATERAL (
        (SELECT l.number, l.kafka_offset, e.*
         FROM ops.late_events AS l
         {{joined}} JOIN LATERAL (
             SELECT e.recorded_at, e.{{mine}} AS mine, e.tenant_id, e.user_id, e.event_type,
                    {PRODUCT_OF} AS product_id, e.event_json
             FROM {READ}.processed_events AS e
             WHERE e.kafka_partition = l.partition AND e.kafka_offset = l.kafka_offset AND e.kafka_topic = $2{{only}}
             LIMIT 1) AS e ON true
         WHERE l.topic = $2 AND l.partition = log.partition AND l.number > log.late
           AND l.number <= log.late_until AND l.kafka_offset < log.next_offset
         ORDER BY l.number LIMIT $10)
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
       topic_id, ids, history_number
FROM log
UNION ALL
SELECT partition, number, kafka_offset, late_until, CASE WHEN mine THEN event_json END,
       CASE WHEN mine THEN tenant_id END, user_id, event_type, product_id, place,
       NULL, NULL, NULL
FROM merged
ORDER BY place
"""  # noqa: S608 - composed of constants

# Of all tenants, what $1 lists of theirs is told; the rest of the log is passed over, entry by entry.
PAGE = _PAGE.format(joined="LEFT", mine="tenant_id = ANY($1::text[])", only="")
# Of one tenant that is not the default: the rows of others are not looked at, and their late events take no place of a
# page. The second condition is the index's.
PAGE_OF_TENANT = _PAGE.format(
    joined="INNER", mine="tenant_id = $1", only=" AND e.tenant_id = $1 AND e.tenant_id <> 'default'"
)


class LogEntry(NamedTuple):
    """One entry of the log. `mark`: how far its partition is read after it. `event`: JSON; None: nothing to deliver.

    Without an event, nothing else of the entry may be told either: it may be another tenant's.
    """

    partition: int
    mark: Mark
    event: str | None
    tenant_id: str | None
    user_id: str | None
    event_type: str | None
    product_id: str | None


class Page(msgspec.Struct, frozen=True):
    """Part of the log: the entries between two vectors. `more`: whether further entries were already available."""

    start: Vector
    entries: list[LogEntry]
    end: Vector
    more: bool
    history: ServedHistory = ServedHistory()

    def walk(self) -> Iterator[tuple[LogEntry, Vector]]:
        """Yields each entry that is an event, with the reader's vector after it, which the next step changes."""
        at = dict(self.start)
        for entry in self.entries:
            at[entry.partition] = entry.mark
            if entry.event is not None:
                yield entry, at

    def cut(self, most: int) -> "Page":
        """Returns the beginning of the page with at most `most` bytes of events, but at least one entry."""
        size, at = 0, dict(self.start)
        for number, entry in enumerate(self.entries):
            size += size_of(entry.event or "")
            if number and size > most:
                return Page(self.start, self.entries[:number], at, more=True, history=self.history)
            at[entry.partition] = entry.mark
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
    pool: asyncpg.Pool, tenant_id: str, topic: str, since: ReaderPosition, limit: int, until: Vector | None = None
) -> Page:
    """Reads a page of the log for one tenant: see `read_page_of_all`."""
    if tenant_id == DEFAULT_TENANT:
        return await read_page_of_all(pool, [tenant_id], topic, since, limit, until)
    return await _read(pool, PAGE_OF_TENANT, tenant_id, topic, since, limit, until)


async def read_page_of_all(
    pool: asyncpg.Pool,
    tenants: Sequence[str],
    topic: str,
    since: ReaderPosition,
    limit: int,
    until: Vector | None = None,
) -> Page:
    """Reads a page of the log in one snapshot.

    Args:
        pool: the pool of database connections.
        tenants: those whose events are told; other entries are there, and say nothing.
        topic: the topic's name.
        since: the reader's position.
        limit: entries at most.
        until: read no further than this vector; None: up to the checkpoints.

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
    until: Vector | None,
) -> Page:
    bound = (*_arrays(until or {}), until is not None)
    rows = await pool.fetch(statement, whose, topic, *_arrays(since.at), *bound, limit)
    ends = {row["partition"]: Mark(row["kafka_offset"], row["late_until"]) for row in rows if row["place"] == 0}
    history = served_history((row["topic_id"], row["ids"], row["history_number"]) for row in rows[: len(ends)])
    check(since.tag, history)
    entries, at = [], dict(since.at)
    for row in rows[len(ends) :]:
        mark = _mark_after(row, at.get(row["partition"], ORIGIN))
        at[row["partition"]] = mark
        texts = (row["event_json"], row["tenant_id"], row["user_id"], row["event_type"], row["product_id"])
        entries.append(LogEntry(row["partition"], mark, *texts))
    if len(entries) < limit:  # every partition is read to its end
        at.update((p, _later(end, at.get(p, ORIGIN))) for p, end in ends.items())
    return Page(since.at, entries, at, len(entries) == limit, history)


def _mark_after(row: asyncpg.Record, before: Mark) -> Mark:
    if row["number"] is not None:
        return Mark(before.next_offset, row["number"])
    return Mark(row["kafka_offset"] + 1, max(row["late_until"], before.late))


def _later(one: Mark, other: Mark) -> Mark:
    return Mark(max(one.next_offset, other.next_offset), max(one.late, other.late))


def _arrays(vector: Vector) -> tuple[list[int], list[int], list[int]]:
    return (
        list(vector),
        [mark.next_offset for mark in vector.values()],
        [mark.late for mark in vector.values()],
    )


def cursor_of(cursors: TenantCursors, topic: str, vector: Vector, tag: bytes) -> str:
    """Returns the cursor of a reader at a vector, in the history with that tag."""
    marks = [(p, mark.next_offset, mark.late) for p, mark in sorted(vector.items())]
    payload = _encode((tag, marks)) if isinstance(cursors, Cursors) else _packed(tag, marks)
    return cursors.seal(payload, b"history:" + _feed(topic))


def position_of_cursor(cursors: TenantCursors, topic: str, cursor: str) -> ReaderPosition | None:
    """Decodes a cursor to a reader's position; returns None if the text is not a cursor of this topic's feed."""
    payload = cursors.open(cursor, b"history:" + _feed(topic))
    if payload is not None:
        return _reader_position(*(_decode(payload) if isinstance(cursors, Cursors) else _unpacked(payload)))
    if not isinstance(cursors, Cursors):
        return None
    payload = cursors.open(cursor, _feed(topic))  # a cursor of an earlier version, which does not name its history
    return None if payload is None else _reader_position(UNTAGGED, _decode_untagged(payload))


Marks = list[tuple[int, int, int]]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[bytes, Marks]).decode
_decode_untagged = msgspec.msgpack.Decoder(Marks).decode


_MARK = (2, 6, 6)  # bytes of a partition, an offset and a number of the ledger


def _packed(tag: bytes, marks: Marks) -> bytes:
    """What a sealed cursor carries. Its length says how many partitions there are, and nothing of their offsets."""
    numbers = [number.to_bytes(size, "big") for mark in marks for number, size in zip(mark, _MARK, strict=True)]
    return len(tag).to_bytes(1, "big") + tag + b"".join(numbers)


def _unpacked(payload: bytes) -> tuple[bytes, Marks]:
    end = 1 + payload[0]
    marks = [payload[at : at + sum(_MARK)] for at in range(end, len(payload), sum(_MARK))]
    return payload[1:end], [
        (int.from_bytes(m[:2], "big"), int.from_bytes(m[2:8], "big"), int.from_bytes(m[8:], "big")) for m in marks
    ]


def _reader_position(tag: bytes, marks: Marks) -> ReaderPosition:
    return (
        ReaderPosition({partition: Mark(offset, late) for partition, offset, late in marks}, tag)
        if marks
        else LOG_BEGINNING
    )


def _feed(topic: str) -> bytes:
    return b"feed:" + topic.encode()
