"""Evidence, and what it must be."""
