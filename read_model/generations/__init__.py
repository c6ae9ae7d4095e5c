"""Generations: their register, their schemas, the topic's histories, and comparing two of them."""
