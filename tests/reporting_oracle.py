"""What each view of schema `reporting` must show, counted in Python from the events themselves, in the log's order."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from contracts.event import DEFAULT_TENANT, UserEvent

Rows = set[tuple[Any, ...]]


def reports(history: Sequence[UserEvent]) -> dict[str, Rows]:
    """The rows of each view but `events`, and of `sessions` without the products, as a set."""
    events = [event for event in history if event.tenant_id == DEFAULT_TENANT]
    stays = sessions(events)
    return {
        "users": users(events),
        "user_event_types": {(*key, n) for key, n in Counter((e.user_id, e.event_type) for e in events).items()},
        "sessions": {_session_row(stay) for stay in stays},
        "product_ranking": ranking(events),
        "product_views_hourly": _counted(((_hour(e), _product(e)), e.user_id) for e in events if _product(e)),
        "activity_hourly": _counted(((_hour(e), e.event_type), e.user_id) for e in events),
        "active_users_daily": {(*key, *rest) for key, *rest in active(events, lambda day: (day,))},
        "active_users_weekly": {(*key, *rest) for key, *rest in active(events, _week)},
        "active_users_monthly": {(*key, *rest) for key, *rest in active(events, lambda day: (day.replace(day=1),))},
        "login_to_view_funnel": funnel(stays),
        "retention_weekly": retention(events),
    }


def _hour(event: UserEvent) -> datetime:
    return event.timestamp.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _day(event: UserEvent) -> date:
    return event.timestamp.astimezone(UTC).date()


def _week(day: date) -> tuple[date, str]:
    year, week, weekday = day.isocalendar()
    return day - timedelta(days=weekday - 1), f"{year}-W{week:02}"


def _product(event: UserEvent) -> str | None:
    product = event.payload.get("productId") if event.event_type == "PRODUCT_VIEW" else None
    return product if isinstance(product, str) else None


def _rate(part: int, whole: int) -> Decimal:
    return (Decimal(part) / whole).quantize(Decimal("0.0001"), ROUND_HALF_UP)


def _counted(found: Iterable[tuple[tuple[Any, ...], str]]) -> Rows:
    """(*key, how many, different users) for each key."""
    users_of: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for key, user in found:
        users_of[key].append(user)
    return {(*key, len(users), len(set(users))) for key, users in users_of.items()}


def first_days(events: Sequence[UserEvent]) -> dict[str, date]:
    """Each user's first day."""
    first: dict[str, date] = {}
    for event in events:
        first[event.user_id] = min(first.get(event.user_id, date.max), _day(event))
    return first


def users(events: Sequence[UserEvent]) -> Rows:
    """user, events, logins, logouts, views, first and last seen, last login, whether logged in, last product."""
    rows = set()
    for user in {event.user_id for event in events}:
        mine = [event for event in events if event.user_id == user]
        kinds = Counter(event.event_type for event in mine)
        changes = [event for event in mine if event.event_type != "PRODUCT_VIEW"]
        logins = [event.timestamp for event in mine if event.event_type == "LOGIN"]
        products = [product for product in map(_product, mine) if product]
        times = [event.timestamp for event in mine]
        counts = (len(mine), kinds["LOGIN"], kinds["LOGOUT"], kinds["PRODUCT_VIEW"])
        state = (logins[-1] if logins else None, bool(changes) and changes[-1].event_type == "LOGIN")
        rows.add((user, *counts, min(times), max(times), *state, products[-1] if products else None))
    return rows


def sessions(events: Sequence[UserEvent]) -> list[list[UserEvent]]:
    """The events of each session, from its LOGIN; the last is what ended it, if it ended."""
    found: list[list[UserEvent]] = []
    open_now: dict[str, list[UserEvent]] = {}
    for event in events:
        stay = open_now.get(event.user_id)
        if stay is not None:
            stay.append(event)
        if event.event_type == "LOGOUT":
            open_now.pop(event.user_id, None)
        elif event.event_type == "LOGIN":
            open_now[event.user_id] = [event]
            found.append(open_now[event.user_id])
    return found


def _session_row(stay: list[UserEvent]) -> tuple[Any, ...]:
    """session, user, start, day, end, ended by, duration, open, views, more products."""
    login, *rest = stay
    end = rest[-1] if rest and rest[-1].event_type != "PRODUCT_VIEW" else None
    duration = max(end.timestamp - login.timestamp, timedelta()) if end else None
    ends = (end.timestamp if end else None, end.event_type if end else None, duration, end is None)
    return (login.event_id, login.user_id, login.timestamp, _day(login), *ends, _views(stay), False)


def _views(stay: list[UserEvent]) -> int:
    return sum(event.event_type == "PRODUCT_VIEW" for event in stay)


def ranking(events: Sequence[UserEvent]) -> Rows:
    """rank, product, views, users."""
    counted = _counted(((_product(event),), event.user_id) for event in events if _product(event))
    return {(1 + sum(views > mine for _, views, _ in counted), name, mine, who) for name, mine, who in counted}


def active(events: Sequence[UserEvent], span_of: Callable[[date], tuple[Any, ...]]) -> Rows:
    """(span, users, new users, events) for each span of time."""
    arrivals = Counter(span_of(day) for day in first_days(events).values())
    counted = _counted(((span_of(_day(event)),), event.user_id) for event in events)
    return {(span, who, arrivals[span], count) for span, count, who in counted}


def funnel(stays: Sequence[list[UserEvent]]) -> Rows:
    """day, sessions, with a view, with several products, rate, users, users with a view."""
    rows = set()
    for day in {_day(stay[0]) for stay in stays}:
        mine = [stay for stay in stays if _day(stay[0]) == day]
        viewed = [stay for stay in mine if _views(stay)]
        several = [stay for stay in mine if len({_product(event) for event in stay} - {None}) > 1]
        who, saw = ({stay[0].user_id for stay in some} for some in (mine, viewed))
        rate = _rate(len(viewed), len(mine))
        rows.add((day, len(mine), len(viewed), len(several), rate, len(who), len(saw)))
    return rows


def retention(events: Sequence[UserEvent]) -> Rows:
    """cohort's week, number of the week, week, users of the cohort, users there, share."""
    cohort_of = {user: _week(day)[0] for user, day in first_days(events).items()}
    sizes = Counter(cohort_of.values())
    there = Counter((cohort_of[user], week) for user, week in {(e.user_id, _week(_day(e))[0]) for e in events})
    return {
        (cohort, (week - cohort).days // 7, week, sizes[cohort], count, _rate(count, sizes[cohort]))
        for (cohort, week), count in there.items()
    }
