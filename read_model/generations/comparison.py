"""Compares two generations table by table, in hashed buckets, on one snapshot.

Each side is read once; a bucket is the rows whose key hashes to it, and its fingerprint is their number and the sum of
their hashes, which depends on no order. Only buckets that differ are read again, row by row, to name the keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from read_model.generations.register import Connection

BUCKETS = 256
MAX_KEYS = 20  # that are named of each bucket

# What tells when and by whom a row was written, and not what the log says.
CIRCUMSTANCES: dict[str, frozenset[str]] = {
    "processed_events": frozenset({"projected_at"}),
    # Of the counters, `stored` is a fact; a duplicate is counted again whenever a record is read again.
    "checkpoints": frozenset(
        {
            "epoch",
            "owner",
            "duplicates",
            "malformed",
            "updated_at",
            "stopped_reason",
            "stopped_at",
            "topic_id",  # of one that an older version made it is null until it is claimed again
            "last_record",
        }
    ),
}
# A letter that was redriven or discarded is an operator's doing; a new build may never have parked it.
DEAD_LETTERS = "dead_letters"
DEAD_LETTER_FACTS = frozenset({"recorded_at", "user_id", "record_key", "record_value", "header_names", "header_values"})

# Earlier releases wrote a full second without a fraction (docs/decisions/0010); a row keeps that text until a rebuild.
SAME_TEXT = {
    ("processed_events", "event_json"): """CASE WHEN occurred_at = date_trunc('second', occurred_at)
        THEN regexp_replace(event_json, '("timestamp":"[0-9T:-]{19})Z', '\\1.000000Z') ELSE event_json END"""
}

ONLY = {
    DEAD_LETTERS: "WHERE state = 'parked'",
    "checkpoints": "WHERE next_offset > 0",  # a partition that nobody has claimed yet has none
}

COLUMNS = """
SELECT a.attname AS name, coalesce(a.attnum = ANY (k.conkey), false) AS in_key
FROM pg_attribute AS a
LEFT JOIN LATERAL (
    SELECT conkey FROM pg_constraint WHERE conrelid = a.attrelid AND contype IN ('p', 'u')
    ORDER BY contype, conname LIMIT 1
) AS k ON true
WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""

FINGERPRINTS = """
WITH mine AS (
    SELECT hashtextextended(ROW({key})::text, 0) & {mask} AS bucket, count(*) AS rows,
           sum(hashtextextended(ROW({facts})::text, 1)) AS hash
    FROM {mine} {only} GROUP BY 1
), theirs AS (
    SELECT hashtextextended(ROW({key})::text, 0) & {mask} AS bucket, count(*) AS rows,
           sum(hashtextextended(ROW({facts})::text, 1)) AS hash
    FROM {theirs} {only} GROUP BY 1
)
SELECT bucket::int, coalesce(mine.rows, 0) AS mine, coalesce(theirs.rows, 0) AS theirs,
       (mine.rows, mine.hash) IS DISTINCT FROM (theirs.rows, theirs.hash) AS differs
FROM mine FULL JOIN theirs USING (bucket) ORDER BY bucket
"""

DIFFERING = """
WITH mine AS (
    SELECT jsonb_build_object({named_key})::text AS key, ROW({facts})::text AS facts FROM {mine} {only_bucket}
), theirs AS (
    SELECT jsonb_build_object({named_key})::text AS key, ROW({facts})::text AS facts FROM {theirs} {only_bucket}
)
SELECT key, CASE WHEN mine.facts IS NULL THEN 'missing' WHEN theirs.facts IS NULL THEN 'extra' ELSE 'different' END
       AS how
FROM mine FULL JOIN theirs USING (key) WHERE mine.facts IS DISTINCT FROM theirs.facts ORDER BY key LIMIT {limit}
"""


@dataclass(frozen=True)
class Key:
    """A row that is not the same: `key` as JSON; `how` as seen from the new generation: missing, extra, different."""

    key: str
    how: str


@dataclass(frozen=True)
class Bucket:
    """A bucket that differs: its number, the rows on either side, and the first keys that are not the same."""

    number: int
    rows_old: int
    rows_new: int
    keys: Sequence[Key]


@dataclass(frozen=True)
class TableComparison:
    """One table: the rows on either side, and the buckets that differ."""

    table: str
    rows_old: int
    rows_new: int
    differing: Sequence[Bucket]

    @property
    def equal(self) -> bool:
        """Whether both sides hold the same rows."""
        return not self.differing


async def compare_table(connection: Connection, old: str, new: str, table: str) -> TableComparison:
    """Compares one table of two generations, on the snapshot of the transaction the connection is in."""
    texts = await _texts(connection, old, new, table)
    rows = await connection.fetch(FINGERPRINTS.format(**texts))
    differing = [
        Bucket(row["bucket"], row["theirs"], row["mine"], await _differing_keys(connection, texts, row["bucket"]))
        for row in rows
        if row["differs"]
    ]
    return TableComparison(table, sum(row["theirs"] for row in rows), sum(row["mine"] for row in rows), differing)


async def _texts(connection: Connection, old: str, new: str, table: str) -> dict[str, str]:
    columns = await connection.fetch(COLUMNS, f"{old}.{table}")
    key = [row["name"] for row in columns if row["in_key"]]
    dull = CIRCUMSTANCES.get(table, frozenset())
    names = [str(row["name"]) for row in columns]
    facts = [SAME_TEXT.get((table, name), name) for name in names if name not in dull]
    if table == DEAD_LETTERS:
        facts = [name for name in facts if name in DEAD_LETTER_FACTS]
    return {
        "mine": f"{new}.{table}",
        "theirs": f"{old}.{table}",
        "key": ", ".join(key or facts),
        "facts": ", ".join(facts),
        "named_key": ", ".join(f"'{name}', {name}" for name in key or facts),
        "only": ONLY.get(table, ""),
        "mask": str(BUCKETS - 1),
        "limit": str(MAX_KEYS),
    }


async def _differing_keys(connection: Connection, texts: dict[str, str], bucket: int) -> list[Key]:
    of_bucket = f"(hashtextextended(ROW({texts['key']})::text, 0) & {texts['mask']}) = {bucket}"
    only_bucket = f"{texts['only']} AND {of_bucket}" if texts["only"] else f"WHERE {of_bucket}"
    rows = await connection.fetch(DIFFERING.format(**texts, only_bucket=only_bucket))
    return [Key(row["key"], row["how"]) for row in rows]
