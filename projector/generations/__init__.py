"""The generations that a projector fills: their loops, their limits, the history of the topic that they follow."""
