"""Metrics, logs and probes, each declared once. Knows nothing of the rooms that use it."""
