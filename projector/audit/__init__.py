"""The audit log beside the projection: its head is anchored in Kafka, and notes of other processes are appended."""
