"""A stopped partition is tried again with growing pauses."""

import pytest

from projector.liveness.stop_retries import JITTER, LONGEST_PAUSE, StopRetries


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def pause_of(retries: StopRetries, clock: Clock) -> float:
    """Seconds until the partition is called, to a tenth."""
    began = clock.now
    while not retries.start_due():
        clock.now += 0.1
    return clock.now - began


def test_pauses_double_up_to_a_minute_and_begin_anew_after_a_success() -> None:
    clock = Clock()
    retries = StopRetries(clock)
    for expected in (5, 10, 20, 40, 60, 60, 5):
        if expected == 5:
            retries.cancel([3])
        retries.schedule(3)
        assert retries.retrying() == set()
        assert pause_of(retries, clock) == pytest.approx(expected, rel=0, abs=expected * JITTER + 0.2)
        assert retries.retrying() == {3}


def test_a_partition_is_called_once_until_it_stops_again() -> None:
    clock = Clock()
    retries = StopRetries(clock)
    retries.schedule(1)
    retries.schedule(2)
    clock.now = 2 * LONGEST_PAUSE
    assert retries.start_due() == [1, 2]
    assert retries.start_due() == []
    retries.schedule(2)
    assert retries.retrying() == {1}
    retries.cancel([1, 2, 9])
    assert retries.retrying() == set()
