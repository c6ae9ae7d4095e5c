"""Kafka in, rows out: the process that runs projections."""
