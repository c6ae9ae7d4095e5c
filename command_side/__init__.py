"""HTTP in, acknowledged events out. No database."""
