"""`footfall demo`: posts a day of traffic and accounts for every event."""
