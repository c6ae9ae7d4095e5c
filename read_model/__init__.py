"""The read model in PostgreSQL: its tables, and how to reach it."""
