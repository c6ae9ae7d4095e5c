"""A measured figure, its reference, and whether it reaches its goal."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Literal

import msgspec


class Result(msgspec.Struct, frozen=True):
    """A row of `latest.json`. `met` is None if the figure has no goal."""

    name: str
    value: float
    unit: str
    reference: str | None = None
    reference_value: float | None = None
    ratio: float | None = None
    goal: str | None = None
    met: bool | None = None


def compared(
    name: str,
    unit: str,
    values: Sequence[float],
    reference: str,
    reference_values: Sequence[float],
    goal: tuple[Literal[">=", "<="], float] | None = None,
) -> Result:
    """Makes a row from the medians of both and their ratio; `goal` bounds the ratio."""
    value, reference_value = median(values), median(reference_values)
    ratio = value / reference_value
    return Result(
        name=name,
        value=round(value, 3),
        unit=unit,
        reference=reference,
        reference_value=round(reference_value, 3),
        ratio=round(ratio, 3),
        goal=f"{goal[0]} {goal[1]:g} x reference" if goal else None,
        met=holds(goal[0])(ratio, goal[1]) if goal else None,
    )


def absolute(
    name: str, unit: str, values: Sequence[float], goal: tuple[Literal[">=", "<=", "=="], float] | None = None
) -> Result:
    """Makes a row from the median of the runs; `goal` bounds the median."""
    value = median(values)
    return Result(
        name=name,
        value=round(value, 3),
        unit=unit,
        goal=f"{goal[0]} {goal[1]:g} {unit}" if goal else None,
        met=holds(goal[0])(value, goal[1]) if goal else None,
    )


def holds(sign: Literal[">=", "<=", "=="]) -> Callable[[float, float], bool]:
    """Returns the comparison for the sign of a goal."""
    signs: dict[str, Callable[[float, float], bool]] = {
        ">=": lambda value, bound: value >= bound,
        "<=": lambda value, bound: value <= bound,
        "==": lambda value, bound: value == bound,
    }
    return signs[sign]
