"""Prints the results of the commands: tables, progress bars and JSON."""
