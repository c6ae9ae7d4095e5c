"""Publishing to the log: the event log, its Kafka producer, rounds of batches, and the circuit breaker."""
