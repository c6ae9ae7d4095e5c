"""Measures what the goals promise, next to the bare work that each is compared with."""
