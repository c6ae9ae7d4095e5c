"""Whether each partition is projecting, from facts: heartbeats, verdicts, stops, the watchdog."""
