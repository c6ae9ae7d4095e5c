"""Stored events, in pages and exports: routes beside their SQL, and the formats they are answered in."""
