"""Failpoints: off unless armed, each goes off once, at the visit that was asked for."""

import pytest

from projector import failpoints
from projector.failpoints import POINTS, VARIABLE, InjectedError, arm, reached
from projector.writing.failure import Failure, kind_of


@pytest.fixture(autouse=True)
def _disarmed() -> object:
    yield
    arm({})


async def test_nothing_happens_unless_armed() -> None:
    arm({})
    for point in POINTS:
        await reached(point)


async def test_a_point_fails_once_at_the_visit_asked_for() -> None:
    arm({VARIABLE: "after_rows=fail@2, after_commit=fail"})
    await reached("after_rows")
    await reached("after_fetch")
    with pytest.raises(InjectedError, match="after_rows") as raised:
        await reached("after_rows")
    assert kind_of(raised.value) is Failure.TRANSIENT
    await reached("after_rows")
    with pytest.raises(InjectedError):
        await reached("after_commit")


async def test_a_point_waits() -> None:
    arm({VARIABLE: "before_commit=sleep:0.01"})
    await reached("before_commit")
    assert not failpoints._armed


@pytest.mark.parametrize("text", ["nowhere=kill", "after_rows=explode", "after_rows", "after_rows=kill@0"])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="after_projections"):
        arm({VARIABLE: text})
