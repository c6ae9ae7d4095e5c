"""Dead letters: parked in PostgreSQL, published to a topic, redriven or discarded."""
