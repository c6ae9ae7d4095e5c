"""`footfall archive`: commands and options, and what they print."""
