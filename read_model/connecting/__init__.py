"""Connections to PostgreSQL: URLs, pools, poolers, errors of an unavailable server, and the operators' lock."""
