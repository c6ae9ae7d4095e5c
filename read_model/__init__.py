"""The read model in PostgreSQL: its tables, its generations and the connections to it."""
