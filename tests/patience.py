"""How long tests wait for what must happen: so long that no machine is too slow, in one place.

A number of seconds beside a wait says what an ordinary, quiet machine needs at most. What is given up is given up by
`patient`, which a machine with one busy core still meets. A test that proves one of the product's own times makes that
time short by its setting, and asserts the order of events or that nothing came earlier, never that it came soon.
"""

PATIENCE = 120.0  # seconds: the least that any wait has
FACTOR = 3.0  # of what a quiet machine needs


def patient(seconds: float = 0.0) -> float:
    """Seconds to wait for what takes an ordinary machine `seconds` at most."""
    return max(PATIENCE, FACTOR * seconds)
