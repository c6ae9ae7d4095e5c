"""Derives from facts whether each partition is being projected: heartbeats, verdicts, stops and the watchdog."""
