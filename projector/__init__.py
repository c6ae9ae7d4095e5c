"""The projector: the process that reads events from Kafka and writes rows to PostgreSQL."""
