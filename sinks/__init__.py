"""Sinks: copies of the events in the engines of analysts, each event once (docs/sinks.md)."""
