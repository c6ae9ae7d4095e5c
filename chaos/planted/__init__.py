"""Faults planted into the product, each of which the checker must catch."""
