"""Connections to PostgreSQL: URLs, pools, poolers, errors that say it is away, the operators' lock."""
