"""Generations: their register, their schemas, the histories of the topic, and the comparison of two generations."""
