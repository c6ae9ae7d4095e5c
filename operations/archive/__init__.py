"""The archive: the log's records as immutable files, with a manifest that proves them (docs/archive.md)."""
