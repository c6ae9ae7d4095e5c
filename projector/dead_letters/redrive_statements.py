"""The SQL of redriving and discarding dead letters; `{generation}` is the schema of the generation."""

from projector.dead_letters.letter_filter import MATCHES

LOCK_TIMEOUT = "SET LOCAL lock_timeout = '5s'"

WHERE_CHOSEN = f"""
SELECT kafka_topic AS topic, kafka_partition AS partition, count(*) AS letters
FROM {{generation}}.dead_letters WHERE {MATCHES} GROUP BY 1, 2 ORDER BY 1, 2
"""

CHOSEN_KEYS = f"""
SELECT record_key AS key, min(kafka_offset) AS first FROM {{generation}}.dead_letters
WHERE {MATCHES} AND record_key <> '' GROUP BY 1
"""

# Includes the letters that wait behind a chosen letter of their key.
NEXT_OF_CHOSEN_KEYS = f"""
SELECT l.* FROM {{generation}}.dead_letters AS l
LEFT JOIN unnest($12::bytea[], $13::bigint[]) AS chosen(key, first) ON chosen.key = l.record_key
WHERE l.state = 'parked' AND l.kafka_topic = $6 AND l.kafka_partition = $7 AND l.kafka_offset > $14
  AND (l.kafka_offset >= chosen.first OR (coalesce(l.record_key, '') = '' AND {MATCHES}))
ORDER BY l.kafka_offset LIMIT $15
"""

NEXT_CHOSEN = f"""
SELECT * FROM {{generation}}.dead_letters
WHERE {MATCHES} AND kafka_offset > $12 ORDER BY kafka_offset LIMIT $13
"""

FIRST_PARKED = """
SELECT record_key, min(kafka_offset) AS first FROM {generation}.dead_letters
WHERE state = 'parked' AND kafka_topic = $1 AND kafka_partition = $2 AND record_key = ANY($3::bytea[])
GROUP BY record_key
"""

FENCE = "UPDATE {generation}.checkpoints SET epoch = epoch + 1 WHERE topic = $1 AND partition = $2 RETURNING epoch"

RESOLVE = """
UPDATE {generation}.dead_letters
SET state = $4, resolved_at = now(), resolved_by = $5, attempts = attempts + $6
WHERE kafka_topic = $1 AND kafka_partition = $2 AND kafka_offset = ANY($3::bigint[])
"""

DIAGNOSE = """
UPDATE {generation}.dead_letters AS l
SET attempts = l.attempts + w.tried, cause = w.cause, error_class = w.error_class, error_message = w.error_message,
    behind_offset = w.behind_offset
FROM unnest($3::bigint[], $4::int[], $5::text[], $6::text[], $7::text[], $8::bigint[])
    AS w(kafka_offset, tried, cause, error_class, error_message, behind_offset)
WHERE l.kafka_topic = $1 AND l.kafka_partition = $2 AND l.kafka_offset = w.kafka_offset
"""

COUNT = """
UPDATE {generation}.checkpoints
SET stored = stored + $3, duplicates = duplicates + $4, malformed = malformed + $5, updated_at = now()
WHERE topic = $1 AND partition = $2
"""

JOURNAL = "INSERT INTO ops.journal (actor, action, detail) VALUES ($1, $2, $3)"

ACTIVE = "SELECT name FROM ops.generations WHERE state = 'active'"
