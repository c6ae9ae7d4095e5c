"""Failpoints: named points in the life of a batch where a test can kill, fail or delay this process.

`FOOTFALL_FAILPOINTS` arms them when the process starts. For example, `after_rows=kill@3,after_commit=sleep:2` kills the
process after it has copied the rows of its third batch, and makes it wait 2 s after its first commit. Each failpoint
triggers once. A failpoint that is not armed costs one truth test of an empty dict.
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
    "after_checkpoint",  # this point and the next three exist only in batches that take several statements
    "after_rows",
    "after_projections",
    "before_commit",
    "after_commit",
    "before_offset_commit",
    "rewrite_registered",  # the points of `footfall privacy rewrite`
    "rewrite_copied",  # as many records as are on their way at the same time, or the last of a partition
    "rewrite_closed",
    "rewrite_before_switch",
    "rewrite_switched",
    "rewrite_deleted",
    "archive_staged",  # the points of `footfall archive run`: the file is whole and has no name yet
    "archive_written",  # it has its name, and is no part of the archive
    "archive_entered",  # it is a part of the archive
]
POINTS: tuple[Point, ...] = get_args(Point)

_ARMED = re.compile(r"(?P<point>[a-z_]+)=(?P<action>kill|fail|sleep:[0-9.]+)(?:@(?P<nth>[1-9][0-9]*))?").fullmatch


class _Armed(msgspec.Struct):
    """The action of one failpoint, and the number of visits until it triggers."""

    action: str
    left: int


class InjectedError(ConnectionError):
    """Raised by a failpoint with the action `fail`. It counts as transient, like a broken connection."""


_armed: dict[str, _Armed] = {}


def arm(environment: Mapping[str, str]) -> None:
    """Arms the failpoints that the environment names.

    Args:
        environment: environment variables; only `FOOTFALL_FAILPOINTS` is read.

    Raises:
        ValueError: the variable does not follow the syntax, or names an unknown failpoint.
    """
    _armed.clear()
    for part in filter(None, environment.get(VARIABLE, "").split(",")):
        match = _ARMED(part.strip())
        if match is None or match["point"] not in POINTS:
            raise ValueError(
                f"{VARIABLE}: {part!r} is not POINT=kill|fail|sleep:SECONDS[@NTH]; POINT is one of {POINTS}"
            )
        _armed[match["point"]] = _Armed(match["action"], int(match["nth"] or 1))


async def reached(point: Point) -> None:
    """Marks a failpoint in the code: runs its action if it is armed. Raises InjectedError for the action `fail`."""
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
