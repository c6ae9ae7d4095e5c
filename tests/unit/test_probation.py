"""A stopped partition is tried again with growing pauses."""

import pytest

from projector.liveness.probation import JITTER, LONGEST_PAUSE, Probation


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def pause_of(probation: Probation, clock: Clock) -> float:
    """Seconds until the partition is called, to a tenth."""
    began = clock.now
    while not probation.call():
        clock.now += 0.1
    return clock.now - began


def test_pauses_double_up_to_a_minute_and_begin_anew_after_a_success() -> None:
    clock = Clock()
    probation = Probation(clock)
    for expected in (5, 10, 20, 40, 60, 60, 5):
        if expected == 5:
            probation.end([3])
        probation.begin(3)
        assert probation.on_trial() == set()
        assert pause_of(probation, clock) == pytest.approx(expected, rel=0, abs=expected * JITTER + 0.2)
        assert probation.on_trial() == {3}


def test_a_partition_is_called_once_until_it_stops_again() -> None:
    clock = Clock()
    probation = Probation(clock)
    probation.begin(1)
    probation.begin(2)
    clock.now = 2 * LONGEST_PAUSE
    assert probation.call() == [1, 2]
    assert probation.call() == []
    probation.begin(2)
    assert probation.on_trial() == {1}
    probation.end([1, 2, 9])
    assert probation.on_trial() == set()
