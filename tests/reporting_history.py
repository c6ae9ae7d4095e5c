"""Five weeks of a small shop from a seed: the data behind docs/sql.md, and what the reports on it have to say.

It goes over the end of a year that has an ISO week 53. There are events that came late, a user whom a foreign producer
put into two partitions, and another tenant, whom no report may show.
"""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from contracts.event import DEFAULT_TENANT, UserEvent
from contracts.record import key_of
from contracts.versions import encode_event
from tests.producing import Raw

FIRST_DAY = datetime(2026, 12, 7, tzinfo=UTC)  # a Monday
DAYS = 35
USERS = 48
PRODUCTS = ("chair", "clock", "desk", "lamp", "mirror", "rug", "shelf", "sofa", "table", "vase")
SPREAD = "user-two-partitions"


def a_history(seed: int = 7) -> list[UserEvent]:
    """Every event, in the order in which it goes to the log."""
    chance = random.Random(seed)
    acts: list[tuple[datetime, str, str, dict[str, Any]]] = []
    for number in range(USERS):
        visits = 1 + chance.randrange(9)
        days = sorted(chance.randrange(DAYS) for _ in range(visits))
        for day in days:
            acts += _visit(f"user-{number:02}", FIRST_DAY + timedelta(days=day), chance)
    acts.sort(key=lambda act: act[0])
    # A phone without a network: what it saw an hour ago, or a month ago, comes now.
    for place in (200, 500, 700):
        _, user, _, _ = acts[place]
        late = acts[place][0] - timedelta(hours=1 if place == 200 else 24 * 20)
        acts.insert(place + 40, (late, user, "PRODUCT_VIEW", {"productId": "clock"}))
    acts += [
        (datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), SPREAD, "PRODUCT_VIEW", {"productId": "vase"}),
        (datetime(2027, 1, 1, tzinfo=UTC), SPREAD, "PRODUCT_VIEW", {"productId": "vase"}),
        (datetime(2027, 1, 1, 5, tzinfo=UTC), SPREAD, "PRODUCT_VIEW", {"productId": 42}),  # no product
    ]
    events = [_event(number, *act) for number, act in enumerate(acts)]
    return events + [_event(len(acts) + n, *act, tenant="acme") for n, act in enumerate(acts[:100])]


def _visit(user: str, day: datetime, chance: random.Random) -> list[tuple[datetime, str, str, dict[str, Any]]]:
    # More come in the evening than at night.
    now = day + timedelta(minutes=max(chance.randrange(1_440), chance.randrange(1_440)))
    acts: list[tuple[datetime, str, str, dict[str, Any]]] = [(now, user, "LOGIN", {})]
    for _ in range(chance.randrange(6)):
        now += timedelta(seconds=20 + chance.randrange(600))
        product = PRODUCTS[min(chance.randrange(len(PRODUCTS)), chance.randrange(len(PRODUCTS)))]
        acts.append((now, user, "PRODUCT_VIEW", {"productId": product}))
    if chance.randrange(3):
        now += timedelta(seconds=20 + chance.randrange(600))
        acts.append((now, user, "LOGOUT", {}))
    return acts


def _event(
    number: int, time: datetime, user: str, kind: str, payload: dict[str, Any], tenant: str = DEFAULT_TENANT
) -> UserEvent:
    return UserEvent(UUID(f"01980000-0000-7000-8000-{number:012x}"), user, kind, time, payload, tenant)


def records_of_history(events: Sequence[UserEvent], partitions: int) -> list[Raw]:
    """Each event as a record with the key of its user; those of `SPREAD` in turn in every partition."""
    return [
        Raw(
            encode_event(event),
            key_of(event.tenant_id, event.user_id),
            number % partitions if event.user_id == SPREAD else None,
        )
        for number, event in enumerate(events)
    ]
