"""Reads batches from Kafka: the consumer group, partition ownership, fetching and the main loop."""
