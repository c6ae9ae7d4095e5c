"""A rebuild, step by step: start, verify, promote, roll back, drop."""
