"""PostgreSQL from a wheel: its cluster, its roles, its server."""
