"""Metrics, logs and probes, each declared once. Imports no other room."""
