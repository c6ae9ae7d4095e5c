"""The read models by their definitions, one event at a time: what the folds and their SQL must come to.

It shares no code with them, and does not care how long it takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from contracts.event import DEFAULT_TENANT, UserEvent
from contracts.versions import encode_event
from projector.projections.user_sessions import MAX_PRODUCTS
from projector.writing.rows import EventRow, to_row

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

Tables = dict[str, list[tuple[object, ...]]]


@dataclass
class OneByOne:
    """The read models by their definitions, for one tenant and partition, in dictionaries."""

    tenant: str
    partition: int
    activity: dict[str, dict[str, Any]] = field(default_factory=dict)
    ended: list[dict[str, Any]] = field(default_factory=list)
    open: dict[str, dict[str, Any]] = field(default_factory=dict)
    views: dict[tuple[datetime, str], list[str]] = field(default_factory=dict)
    acts: dict[tuple[datetime, str], list[str]] = field(default_factory=dict)

    def add(self, event: UserEvent) -> None:
        user, time = event.user_id, event.timestamp
        product = event.payload.get("productId")
        if not isinstance(product, str) or not 1 <= len(product) <= 256 or not unprintable(product).isdisjoint(product):
            product = None
        hour = datetime(time.year, time.month, time.day, time.hour, tzinfo=UTC)
        self.acts.setdefault((hour, event.event_type), []).append(user)
        known = self.activity.setdefault(user, {"times": [], "types": [], "login": None, "state": None, "view": None})
        known["times"].append(time)
        known["types"].append(event.event_type)
        if event.event_type == "PRODUCT_VIEW":
            self.view(event, product, hour)
        else:
            known["state"] = (event.event_type == "LOGIN", time)
            if user in self.open:
                self.ended.append({**self.open.pop(user), "ended": time, "by": event.event_type})
            if event.event_type == "LOGIN":
                known["login"] = time
                self.open[user] = {"user": user, "id": event.event_id, "started": time, "views": 0, "products": []}

    def view(self, event: UserEvent, product: str | None, hour: datetime) -> None:
        session = self.open.get(event.user_id)
        if session is not None:
            session["views"] += 1
            if product is not None and product not in session["products"] and len(session["products"]) <= MAX_PRODUCTS:
                session["products"].append(product)
        if product is not None:
            self.activity[event.user_id]["view"] = (product, event.timestamp)
            self.views.setdefault((hour, product), []).append(event.user_id)

    def tables(self) -> Tables:
        t, p = self.tenant, self.partition
        bits = {"LOGIN": 1, "LOGOUT": 2, "PRODUCT_VIEW": 4}
        types: dict[tuple[datetime, str], int] = {}
        for (hour, kind), users in self.acts.items():
            for user in set(users):
                types[hour, user] = types.get((hour, user), 0) + bits[kind]
        return {
            "user_activity": [
                (
                    *(t, user, p, min(k["times"]), max(k["times"])),
                    *(k["types"].count(kind) for kind in ("LOGIN", "LOGOUT", "PRODUCT_VIEW")),
                    *(k["login"], *(k["state"] or (None, None)), *(k["view"] or (None, None))),
                )
                for user, k in self.activity.items()
            ],
            "user_sessions": [
                (t, s["user"], p, s["id"], s["started"], s["ended"], s["by"], s["views"], s["products"])
                for s in self.ended
            ],
            "user_sessions_open": [
                (t, s["user"], p, s["id"], s["started"], s["views"], s["products"]) for s in self.open.values()
            ],
            "product_views": [
                (t, hour, product, p, len(users), len(set(users))) for (hour, product), users in self.views.items()
            ],
            "activity_hourly": [
                (t, hour, kind, p, len(users), len(set(users))) for (hour, kind), users in self.acts.items()
            ],
            "activity_hourly_users": [(t, hour, user, p, bit) for (hour, user), bit in types.items()],
        }


def unprintable(text: str) -> set[str]:
    """The control characters of the text."""
    return {character for character in text if ord(character) < 32 or 127 <= ord(character) < 160}


def expected(rows: Sequence[EventRow]) -> Tables:
    parts: dict[tuple[str, int], OneByOne] = {}
    for row in rows:
        key = (row.event.tenant_id, row.partition)
        parts.setdefault(key, OneByOne(*key)).add(row.event)
    found: Tables = {}
    for one in parts.values():
        for name, content in one.tables().items():
            found.setdefault(name, []).extend(content)
    return {name: sorted(content, key=repr) for name, content in found.items() if content}


COLUMNS = {
    "user_activity": "tenant_id, user_id, kafka_partition, first_seen, last_seen, logins, logouts, product_views, "
    "last_login_at, logged_in, changed_at, last_product_id, last_product_at",
    "user_sessions": "tenant_id, user_id, kafka_partition, session_id, started_at, ended_at, ended_by, views, products",
    "user_sessions_open": "tenant_id, user_id, kafka_partition, session_id, started_at, views, products",
    "product_views": "tenant_id, hour, product_id, kafka_partition, views, users",
    "activity_hourly": "tenant_id, hour, event_type, kafka_partition, events, users",
    "activity_hourly_users": "tenant_id, hour, user_id, kafka_partition, types",
}


class Record(msgspec.Struct):
    topic: str
    partition: int
    offset: int
    value: bytes | None
    timestamp: int = 0
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def row_of(
    number: int,
    user: str,
    kind: str,
    time: datetime,
    payload: dict[str, Any] | None = None,
    partition: int = 0,
    tenant: str = DEFAULT_TENANT,
) -> EventRow:
    event = UserEvent(UUID(int=number + 1), user, kind, time, payload or {}, tenant)
    row = to_row(Record("t", partition, number, encode_event(event)))
    assert isinstance(row, EventRow)
    return row


def test_an_open_session_moves_to_the_ended_ones() -> None:
    rows = [row_of(0, "anna", "LOGIN", NOON), row_of(1, "anna", "PRODUCT_VIEW", NOON, {"productId": "p-1"})]
    found = expected(rows)
    assert found["user_sessions_open"] == [("default", "anna", 0, UUID(int=1), NOON, 1, ["p-1"])]
    found = expected([*rows, row_of(2, "anna", "LOGOUT", NOON)])
    assert "user_sessions_open" not in found
    assert found["user_sessions"] == [("default", "anna", 0, UUID(int=1), NOON, NOON, "LOGOUT", 1, ["p-1"])]
