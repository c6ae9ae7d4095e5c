"""The ledger of late events: events that became visible below a checkpoint (docs/decisions/0016).

Readers of the feed have already passed the offsets of these events. So the ledger numbers them, for each partition in
commit order. To keep that order, a transaction that writes here locks the partition's checkpoint until its end.
"""

# Adds the events of one partition ($1, $2) at the offsets $3 that were redriven in the active generation.
ADD = """
INSERT INTO ops.late_events (topic, partition, number, kafka_offset)
SELECT $1, $2, coalesce((SELECT max(number) FROM ops.late_events WHERE topic = $1 AND partition = $2), 0)
               + row_number() OVER (ORDER BY kafka_offset), kafka_offset
FROM unnest($3::bigint[]) AS came(kafka_offset)
WHERE (SELECT state FROM ops.generations WHERE name = '{generation}') = 'active'
"""

# At a promotion, adds the records that were parked or discarded in the old generation and are, or may become, rows of
# the new one.
PROMOTED = """
INSERT INTO ops.late_events (topic, partition, number, kafka_offset)
SELECT kafka_topic, kafka_partition,
       coalesce((SELECT max(number) FROM ops.late_events WHERE topic = kafka_topic AND partition = kafka_partition), 0)
       + row_number() OVER (PARTITION BY kafka_topic, kafka_partition ORDER BY kafka_offset), kafka_offset
FROM {old}.dead_letters AS letter
WHERE state <> 'redriven'
  AND (EXISTS (SELECT FROM {new}.processed_events AS e WHERE e.kafka_partition = letter.kafka_partition
                  AND e.kafka_offset = letter.kafka_offset AND e.kafka_topic = letter.kafka_topic)
       OR kafka_offset >= (SELECT next_offset FROM {new}.checkpoints
                           WHERE topic = kafka_topic AND partition = kafka_partition))
"""

FORGET = "DELETE FROM ops.late_events WHERE topic = $1"
