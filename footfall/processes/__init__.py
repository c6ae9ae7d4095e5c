"""Runs the processes: one module for each, which imports only what its process needs."""
