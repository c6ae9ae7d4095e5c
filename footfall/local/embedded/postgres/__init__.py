"""Runs PostgreSQL from a wheel: data directory, roles, server."""
