"""Measures the progress of each generation: position, rate, time left."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from operations.rebuild.lifecycle import SESSIONS
from operations.rebuild.operator import Operator
from read_model.generations.register import PROJECTED, Generation, positions, projector_name
from read_model.wire_time import wire_time_or_none

SAMPLE = 1.0  # seconds between the two measurements that give a rate

CHECKPOINTS = """
SELECT partition, next_offset, owner, stopped_reason FROM {generation}.checkpoints WHERE topic = $1 ORDER BY partition
"""


class PartitionProgress(msgspec.Struct, frozen=True):
    """The position of one generation in one partition."""

    partition: int
    next_offset: int
    end_offset: int
    owner: str
    stopped_reason: str | None


class Progress(msgspec.Struct, frozen=True):
    """One generation.

    `progress`: 0 to 1. `behind`: events to the end of the log. `projectors`: database sessions of projectors that work
    in it. `events_per_second` and `seconds_left`: None if not known.
    """

    name: str
    state: str
    max_rate: int | None
    held: bool
    verified: bool
    dates: dict[str, str | None]
    projectors: int
    progress: float
    behind: int
    events_per_second: float | None
    seconds_left: float | None
    partitions: list[PartitionProgress]


async def progress_of_all(operator: Operator, sample: float = SAMPLE) -> list[Progress]:
    """Returns every generation that has tables. Takes `sample` seconds, over which the rates are measured."""
    generations = [found for found in await operator.generations() if found.state != "dropping"]
    before = {found.name: await positions(operator.connection, found.name, operator.topic) for found in generations}
    began = time.monotonic()
    await asyncio.sleep(sample)
    ends = await operator.ends()
    seconds = time.monotonic() - began
    return [await _progress(operator, found, before[found.name], ends, seconds) for found in generations]


async def _progress(
    operator: Operator, found: Generation, before: Mapping[int, int], ends: Mapping[int, int], seconds: float
) -> Progress:
    rows = await operator.connection.fetch(CHECKPOINTS.format(generation=found.name), operator.topic)
    partitions = [
        PartitionProgress(
            row["partition"], row["next_offset"], ends.get(row["partition"], 0), row["owner"], row["stopped_reason"]
        )
        for row in rows
    ]
    done, wanted = sum(p.next_offset for p in partitions), sum(ends.values())
    behind = max(0, wanted - done)
    rate = (done - sum(before.values())) / seconds if seconds and found.state in PROJECTED else None
    return Progress(
        found.name,
        found.state,
        found.max_rate,
        bool(found.holds),
        found.verified is not None,
        {name: wire_time_or_none(date) for name, date in found.dates.items()},
        await operator.connection.fetchval(SESSIONS, projector_name(found.name)),
        min(1.0, done / wanted) if wanted else 1.0,
        behind,
        rate,
        behind / rate if rate and behind else (0.0 if not behind else None),
        partitions,
    )


def as_json(found: Any) -> str:
    """Returns the value as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode()
