"""Fetches Apache Kafka's jars and runs one broker."""
