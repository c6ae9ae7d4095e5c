"""Secrets: the files that they come from, and what production asks of the connections that carry them."""
