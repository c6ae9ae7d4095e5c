"""The rate cap: never more than the rate allows, and all of what it allows."""

import pytest

from projector.consuming.rate_limiter import BURST, RateLimiter


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("rate", [0.5, 3.0, 100.0, 20_000.0])
def test_what_is_taken_in_a_minute_is_what_the_rate_allows(rate: float) -> None:
    clock = Clock()
    rate_limiter = RateLimiter(clock)
    taken = 0
    for _ in range(3_000):
        clock.now += 0.02
        room = rate_limiter.available(rate, 5_000)
        rate_limiter.spend(room)
        taken += room
    assert taken <= 60 * rate + max(1.0, rate * BURST)
    assert taken >= 0.9 * 60 * rate - 1


def test_without_a_rate_there_is_always_room_and_a_rate_begins_empty() -> None:
    clock = Clock()
    rate_limiter = RateLimiter(clock)
    assert rate_limiter.available(None, 5_000) == 5_000
    rate_limiter.spend(5_000)
    clock.now += 1
    assert rate_limiter.available(None, 5_000) == 5_000
    clock.now += 1
    assert rate_limiter.available(100, 5_000) == 25


def test_lanes_that_ask_side_by_side_pay_back_what_they_took_too_much() -> None:
    clock = Clock()
    rate_limiter = RateLimiter(clock)
    clock.now += 1
    first, second = rate_limiter.available(100, 5_000), rate_limiter.available(100, 5_000)
    rate_limiter.spend(first)
    rate_limiter.spend(second)
    clock.now += 0.2
    assert rate_limiter.available(100, 5_000) == 0
    clock.now += 0.15
    assert 9 <= rate_limiter.available(100, 5_000) <= 10
