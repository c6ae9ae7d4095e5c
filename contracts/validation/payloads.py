"""The bounds of a payload: how deep, how large, and which numbers."""

from collections.abc import Callable
from typing import Any

import msgspec

from contracts.event import MAX_PAYLOAD_BYTES, MAX_PAYLOAD_DEPTH
from contracts.validation.json_text import depth_of, leaves, surely_keeps_every_digit, surely_no_number_vanishes
from contracts.validation.large_payloads import LARGE_PAYLOAD
from contracts.validation.repeated_keys import Container

MAX_FLOAT = 2.0**53  # above it a double's shortest text is no longer its exact value, so jsonb's numeric would differ
MAX_INTEGER = 2**64 - 1
MIN_INTEGER = -(2**63)

ValuesCheck = Callable[[Container, bytes], bool]
_encode = msgspec.json.Encoder().encode


def values_are_surely_valid(container: Container, raw: bytes) -> bool:
    """Whether depth and numbers are within their bounds beyond doubt. `raw`: the text of which it is a part."""
    return _are_within_bounds(container, []) or (
        surely_no_number_vanishes(raw) and _are_within_bounds(container, [], zeros=True)
    )


def values_are_surely_exact(container: Container, raw: bytes) -> bool:
    """As `values_are_surely_valid`, and no number is rounded."""
    fractions: list[float] = []
    if _are_within_bounds(container, fractions):
        return not fractions or surely_keeps_every_digit(raw)
    return surely_keeps_every_digit(raw) and values_are_surely_valid(container, raw)


def _are_within_bounds(container: Container, fractions: list[float], depth: int = 1, *, zeros: bool = False) -> bool:
    """Adds each float to `fractions`. `depth`: the level of `container` itself.

    `zeros`: whether 0.0 is within bounds; 1e-400 becomes it, too.
    """
    if depth > MAX_PAYLOAD_DEPTH:
        return False
    value: Any
    for value in container.values() if type(container) is dict else container:
        kind = type(value)
        if kind is str or kind is bool or value is None:
            continue
        if kind is int:
            if not MIN_INTEGER <= value <= MAX_INTEGER:
                return False
        elif kind is float:
            if not -MAX_FLOAT <= value <= MAX_FLOAT or (value == 0 and not zeros):
                return False
            fractions.append(value)
        elif not _are_within_bounds(value, fractions, depth + 1, zeros=zeros):
            return False
    return True


def payload_problems(payload: dict[str, Any]) -> list[str]:
    """A sentence for each bound that the payload passes."""
    problems = []
    if depth_of(payload) > MAX_PAYLOAD_DEPTH:
        problems.append(f"Field `payload` is nested deeper than {MAX_PAYLOAD_DEPTH} levels.")
    if len(_encode(payload)) > MAX_PAYLOAD_BYTES:
        problems.append(LARGE_PAYLOAD)
    if any(not MIN_INTEGER <= n <= MAX_INTEGER for n in leaves(payload, int)):
        problems.append("Field `payload` has an integer beyond 64 bits; send it as a string.")
    if any(not -MAX_FLOAT <= n <= MAX_FLOAT for n in leaves(payload, float)):
        problems.append("Field `payload` has a fractional number beyond 2^53; send it as a string.")
    return problems
