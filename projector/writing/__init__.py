"""Writes batches to PostgreSQL in one transaction with the checkpoint, and handles batches that fail."""
