"""Waits for positions are bounded together: beyond the bound a request learns how it is now, without a wait."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from query_side.log_positions.bounded_waits import BoundedWaits
from query_side.log_positions.positions import Position
from web.policies.decisions import RefusedError
from web.policies.limits.shares import Share
from web.policies.principal import ANONYMOUS, AccessScope, Principal

POSITION = Position(0, 7)


class NeverReached:
    """A read model that never moves; `asked`: for how long each was to wait."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def wait_for(self, positions: Sequence[Position], seconds: float) -> list[Position]:
        self.asked.append(seconds)
        if seconds:
            await asyncio.Event().wait()
        return [*positions]


def principal(subject: str) -> Principal:
    return Principal("acme", subject, frozenset(AccessScope))


async def begun(waits: BoundedWaits, subject: str) -> asyncio.Task[list[Position]]:
    task = asyncio.create_task(waits.wait_for(principal(subject), [POSITION], 30))
    await asyncio.sleep(0)
    return task


async def test_who_comes_beyond_the_bound_does_not_wait_and_a_place_comes_back() -> None:
    progress = NeverReached()
    waits = BoundedWaits(cast("Any", progress), Share("reads", 2, 50))
    waiting = [await begun(waits, ANONYMOUS) for _ in range(2)]
    assert await waits.wait_for(principal(ANONYMOUS), [POSITION], 30) == [POSITION]
    assert progress.asked == [30, 30, 0]
    waiting[0].cancel()
    await asyncio.wait([waiting[0]])
    waiting.append(await begun(waits, ANONYMOUS))
    assert progress.asked == [30, 30, 0, 30]
    for task in waiting:
        task.cancel()


async def test_one_principal_holds_its_share_of_the_waits() -> None:
    waits = BoundedWaits(cast("Any", NeverReached()), Share("reads", 2, 50))
    waiting = await begun(waits, "key:1")
    with pytest.raises(RefusedError) as refused:
        await waits.wait_for(principal("key:1"), [POSITION], 30)
    assert refused.value.answer.status == 429
    waiting.cancel()
