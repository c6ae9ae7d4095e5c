"""Spans of full hours, which is what the projections by hour can answer for."""

from datetime import UTC, datetime, timedelta

from query_side.api.parameters import Parameters

HOUR = timedelta(hours=1)
FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, tzinfo=UTC)


def span_of_hours(parameters: Parameters, usual: timedelta, most: timedelta) -> tuple[datetime, datetime]:
    """`from` rounded down and `to` rounded up to full hours; without them, the last `usual` before `to`, up to now.

    Notes a sentence when they are further apart than `most`.
    """
    since, until = parameters.span()
    end = _rounded_up(until or datetime.now(UTC))
    begin = _rounded_down(since) if since else end - min(usual, end - FIRST)
    if begin >= end and not parameters.problems:
        parameters.problems.append("Parameter `from` must be earlier than `to`, which is now unless it is given.")
    if end - begin > most:
        parameters.problems.append(f"Parameters `from` and `to` may be {most // timedelta(days=1)} days apart at most.")
    return begin, end


def _rounded_down(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)


def _rounded_up(time: datetime) -> datetime:
    begun = _rounded_down(time)
    return begun if begun == time or begun >= LAST else begun + HOUR
