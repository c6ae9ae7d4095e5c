"""Erasure of users: their rows go when the marker in the log is reached (docs/privacy.md)."""
