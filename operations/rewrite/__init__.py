"""The rewrite of the log without erased users (docs/decisions/0043)."""
