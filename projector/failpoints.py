"""Named places in a batch's life where a test may kill, fail or delay this process. Off, each costs one look at a dict.

`FOOTFALL_FAILPOINTS` arms them when the process starts: `after_rows=kill@3,after_commit=sleep:2` kills the process when
it has copied its third batch's rows, and makes it wait 2 s after its first commit. Each goes off once.
"""

import asyncio
import os
import re
import signal
from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

VARIABLE = "FOOTFALL_FAILPOINTS"

Point = Literal[
    "after_fetch",
    "after_assemble",
    "before_transaction",
    "after_checkpoint",  # batches that take several statements only, like the three that follow
    "after_rows",
    "after_projections",
    "before_commit",
    "after_commit",
    "before_offset_commit",
]
POINTS: tuple[Point, ...] = get_args(Point)

_ARMED = re.compile(r"(?P<point>[a-z_]+)=(?P<action>kill|fail|sleep:[0-9.]+)(?:@(?P<nth>[1-9][0-9]*))?").fullmatch


class _Armed(msgspec.Struct):
    """What happens at a point, and after how many more visits."""

    action: str
    left: int


class InjectedError(ConnectionError):
    """What an armed point raises: transient, as a broken connection is."""


_armed: dict[str, _Armed] = {}


def arm(environment: Mapping[str, str]) -> None:
    """Arms what the environment names. Raises ValueError for what it cannot read."""
    _armed.clear()
    for part in filter(None, environment.get(VARIABLE, "").split(",")):
        match = _ARMED(part.strip())
        if match is None or match["point"] not in POINTS:
            raise ValueError(
                f"{VARIABLE}: {part!r} is not POINT=kill|fail|sleep:SECONDS[@NTH]; POINT is one of {POINTS}"
            )
        _armed[match["point"]] = _Armed(match["action"], int(match["nth"] or 1))


async def reached(point: Point) -> None:
    """The place itself. Raises InjectedError where that was asked for."""
    if _armed and point in _armed:
        await _visit(point, _armed[point])


async def _visit(point: Point, armed: _Armed) -> None:
    armed.left -= 1
    if armed.left:
        return
    del _armed[point]
    if armed.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if armed.action == "fail":
        raise InjectedError(f"failpoint {point}")
    await asyncio.sleep(float(armed.action.removeprefix("sleep:")))
