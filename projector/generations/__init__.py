"""The generations that a projector fills: their loops, their limits and the topic history that they follow."""
