"""Traces: what is recorded of requests and batches, and how it leaves the process (docs/traces.md)."""
