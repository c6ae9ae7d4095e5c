"""Probes run side by side, each within its time, and never break the answer."""

import asyncio
from functools import partial

from telemetry.health import DependencyState, check


async def ok() -> DependencyState:
    return DependencyState(ok=True, detail="3 held")


async def broken() -> DependencyState:
    raise LookupError("postgresql://user:hunter2@host/database")


async def hanging() -> DependencyState:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


async def test_each_dependency_tells_its_own_state() -> None:
    states = await check({"a": ok, "b": broken, "c": hanging, "d": hanging}, within=0.1)
    assert states == {
        "a": DependencyState(ok=True, detail="3 held"),
        "b": DependencyState(
            ok=False, detail="a fault of this program (LookupError)"
        ),  # the name of the error, never its text
        "c": DependencyState(ok=False, detail="no answer within 0.1 s"),
        "d": DependencyState(ok=False, detail="no answer within 0.1 s"),
    }


async def test_probes_run_side_by_side() -> None:
    begun = [asyncio.Event() for _ in range(3)]

    async def meeting(number: int) -> DependencyState:
        begun[number].set()
        for other in begun:
            await other.wait()
        return DependencyState(ok=True)

    states = await check({str(number): partial(meeting, number) for number in range(3)})
    assert [state.ok for state in states.values()] == [True] * 3


async def test_without_dependencies_there_is_nothing_to_check() -> None:
    assert await check({}) == {}
