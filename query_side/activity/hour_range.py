"""Spans of full hours, which is what the projections by hour can answer for."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from query_side.api.parameters import Parameters

HOUR = timedelta(hours=1)
FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, tzinfo=UTC)


def full_hours(since: datetime | None, until: datetime | None, usual: timedelta) -> tuple[datetime, datetime]:
    """`since` rounded down, `until` rounded up; without them, the last `usual` before `until`, and up to now."""
    end = _rounded_up(until or datetime.now(UTC))
    return _rounded_down(since) if since else end - min(usual, end - FIRST), end


def within(usual: timedelta, most: timedelta) -> Callable[[Parameters], None]:
    """The rule of a route for `from` and `to` together: in this order, and not further apart than `most`."""

    def rule(parameters: Parameters) -> None:
        begin, end = full_hours(*parameters.span(), usual)
        if begin >= end and not parameters.problems:
            parameters.problems.append("Parameter `from` must be earlier than `to`, which is now unless it is given.")
        if end - begin > most:
            days = most // timedelta(days=1)
            parameters.problems.append(f"Parameters `from` and `to` may be {days} days apart at most.")

    return rule


def _rounded_down(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)


def _rounded_up(time: datetime) -> datetime:
    begun = _rounded_down(time)
    return begun if begun == time or begun >= LAST else begun + HOUR
