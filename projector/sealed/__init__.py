"""The sealed log: records are opened before anything else looks at them (docs/decisions/0042)."""
