"""Faults planted into a running stack, and the remedies that the doctor shows, as an operator would follow them."""
