"""The shipped rules, made to fire within seconds: every duration in them is divided by the same number."""

import re
from functools import partial

FACTOR = 300
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}  # seconds
# What becomes no shorter, in seconds. A projector asks PostgreSQL and Kafka every ten seconds what there is to tell.
LEAST_RANGE, LEAST_FOR, LEAST_AGE = 12.0, 1.0, 2.0

_RANGES = re.compile(r"(?<=\[)(\d+)([smhd])(?=\])|(?<=offset )(\d+)([smhd])")
_FORS = re.compile(r"(?<= for: )(\d+)([smhd])")
# What these say is for how long something has lasted.
_AGES = re.compile(r"((?:oldest_seconds|oldest_transaction_seconds|lag_seconds:max)\)? > )(\d+)")


def shortened(rules: str) -> str:
    """The text of rules, with ranges, offsets, `for` and ages that are `FACTOR` times shorter."""
    rules = _RANGES.sub(partial(_duration, least=LEAST_RANGE), rules)
    rules = _FORS.sub(partial(_duration, least=LEAST_FOR), rules)
    return _AGES.sub(lambda found: f"{found[1]}{max(LEAST_AGE, int(found[2]) / FACTOR):g}", rules)


def _duration(found: "re.Match[str]", least: float) -> str:
    number, unit = (group for group in found.groups() if group)
    return f"{max(least, int(number) * UNITS[unit] / FACTOR) * 1000:.0f}ms"
