"""The ledger of late events: events that became visible below a checkpoint (docs/decisions/0016).

Readers of the feed have already passed the offsets of these events. So the ledger numbers them, for each partition in
commit order. To keep that order, a transaction that writes here locks the partition's checkpoint until its end.
"""

# Adds the events of one partition ($1, $2) at the offsets $3 that were redriven in the active generation.
ADD = """
INSERT INTO ops.late_events (topic, partition, number, kafka_offset, tenant_id)
SELECT $1, $2, coalesce((SELECT max(number) FROM ops.late_events WHERE topic = $1 AND partition = $2), 0)
               + row_number() OVER (ORDER BY came.kafka_offset), came.kafka_offset, e.tenant_id
FROM unnest($3::bigint[]) AS came(kafka_offset)
LEFT JOIN {generation}.processed_events AS e
    ON e.kafka_topic = $1 AND e.kafka_partition = $2 AND e.kafka_offset = came.kafka_offset
WHERE (SELECT state FROM ops.generations WHERE name = '{generation}') = 'active'
"""

# At a promotion, adds the records that were parked or discarded in the old generation and are, or may become, rows of
# the new one. Of the latter nobody knows whose they are: a key of an earlier version does not say.
PROMOTED = """
INSERT INTO ops.late_events (topic, partition, number, kafka_offset, tenant_id)
SELECT letter.kafka_topic, letter.kafka_partition,
       coalesce((SELECT max(number) FROM ops.late_events
                 WHERE topic = letter.kafka_topic AND partition = letter.kafka_partition), 0)
       + row_number() OVER (PARTITION BY letter.kafka_topic, letter.kafka_partition ORDER BY letter.kafka_offset),
       letter.kafka_offset, e.tenant_id
FROM {old}.dead_letters AS letter
LEFT JOIN {new}.processed_events AS e USING (kafka_partition, kafka_offset, kafka_topic)
WHERE letter.state <> 'redriven'
  AND (e.event_id IS NOT NULL
       OR letter.kafka_offset >= (SELECT next_offset FROM {new}.checkpoints
                                  WHERE topic = letter.kafka_topic AND partition = letter.kafka_partition))
"""

FORGET = "DELETE FROM ops.late_events WHERE topic = $1"
