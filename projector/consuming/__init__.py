"""From Kafka to batches: the consumer group, ownership of partitions, fetching, the main loop."""
