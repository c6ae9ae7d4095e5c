"""Compares two generations table by table, in hashed buckets, on one snapshot.

Each side is read once. A bucket holds the rows whose key hashes to its number. Its fingerprint is the number of rows
and the sum of their hashes, which does not depend on their order. Only buckets that differ are read again, row by row,
to name the keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from read_model.connecting.pool import Connection

BUCKETS = 256
MAX_KEYS = 20  # keys at most that are named for each bucket

# Columns that are not compared: they say when and by whom a row was written, and not what the log says.
NOT_COMPARED: dict[str, frozenset[str]] = {
    "processed_events": frozenset({"projected_at"}),
    # Of the counters, only `stored` is compared: a duplicate is counted again whenever a record is read again.
    "checkpoints": frozenset(
        {
            "epoch",
            "owner",
            "duplicates",
            "malformed",
            "updated_at",
            "stopped_reason",
            "stopped_at",
            "topic_id",  # null in a checkpoint of an older version, until it is claimed again
            "last_record",
            "event_types",
        }
    ),
}
# Only parked letters are compared. Operators redrive and discard letters, which a new build may never have parked.
DEAD_LETTERS = "dead_letters"
DEAD_LETTER_FACTS = frozenset({"recorded_at", "user_id", "record_key", "record_value", "header_names", "header_values"})

# Earlier releases wrote full seconds without a fraction (docs/decisions/0010), and rows keep that text until a rebuild.
# So the comparison adds the fraction.
NORMALIZED = {
    ("processed_events", "event_json"): """CASE WHEN occurred_at = date_trunc('second', occurred_at)
        THEN regexp_replace(event_json, '("timestamp":"[0-9T:-]{19})Z', '\\1.000000Z') ELSE event_json END"""
}

FILTERS = {
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
    """A row that differs. `key`: its key as JSON. `how`: missing, extra or different in the new generation."""

    key: str
    how: str


@dataclass(frozen=True)
class Bucket:
    """A bucket that differs: its number, the number of rows on each side, and the first keys that differ."""

    number: int
    rows_old: int
    rows_new: int
    keys: Sequence[Key]


@dataclass(frozen=True)
class TableComparison:
    """The comparison of one table: the number of rows on each side, and the buckets that differ."""

    table: str
    rows_old: int
    rows_new: int
    differing: Sequence[Bucket]

    @property
    def equal(self) -> bool:
        """Whether both sides hold the same rows."""
        return not self.differing


async def compare_table(connection: Connection, old: str, new: str, table: str) -> TableComparison:
    """Compares one table of two generations, in the connection's current transaction and its snapshot."""
    parts = await _sql_parts(connection, old, new, table)
    rows = await connection.fetch(FINGERPRINTS.format(**parts))
    differing = [
        Bucket(row["bucket"], row["theirs"], row["mine"], await _differing_keys(connection, parts, row["bucket"]))
        for row in rows
        if row["differs"]
    ]
    return TableComparison(table, sum(row["theirs"] for row in rows), sum(row["mine"] for row in rows), differing)


async def _sql_parts(connection: Connection, old: str, new: str, table: str) -> dict[str, str]:
    columns = await connection.fetch(COLUMNS, f"{old}.{table}")
    key = [row["name"] for row in columns if row["in_key"]]
    not_compared = NOT_COMPARED.get(table, frozenset())
    names = [str(row["name"]) for row in columns]
    facts = [NORMALIZED.get((table, name), name) for name in names if name not in not_compared]
    if table == DEAD_LETTERS:
        facts = [name for name in facts if name in DEAD_LETTER_FACTS]
    return {
        "mine": f"{new}.{table}",
        "theirs": f"{old}.{table}",
        "key": ", ".join(key or facts),
        "facts": ", ".join(facts),
        "named_key": ", ".join(f"'{name}', {name}" for name in key or facts),
        "only": FILTERS.get(table, ""),
        "mask": str(BUCKETS - 1),
        "limit": str(MAX_KEYS),
    }


async def _differing_keys(connection: Connection, parts: dict[str, str], bucket: int) -> list[Key]:
    of_bucket = f"(hashtextextended(ROW({parts['key']})::text, 0) & {parts['mask']}) = {bucket}"
    only_bucket = f"{parts['only']} AND {of_bucket}" if parts["only"] else f"WHERE {of_bucket}"
    rows = await connection.fetch(DIFFERING.format(**parts, only_bucket=only_bucket))
    return [Key(row["key"], row["how"]) for row in rows]
