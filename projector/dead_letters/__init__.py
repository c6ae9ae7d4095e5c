"""Poison events: parked in PostgreSQL, published to their topic, redriven or discarded."""
