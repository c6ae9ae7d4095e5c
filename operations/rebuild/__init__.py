"""The steps of a rebuild: start, verify, promote, roll back, drop."""
