"""The sealed log's own formats (docs/decisions/0042)."""
