"""Computes from the log alone what every read model must contain, in plain Python and without Footfall's code.

It implements the rules of the documentation (docs/adding-a-projection.md and the comments of the migrations) a second
time, event by event and without batches, so that it does not repeat a mistake of the projector.
"""

import json
import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

Key = tuple[Any, ...]
Row = dict[str, Any]
Tables = dict[str, dict[Key, Row]]  # table to its rows by key

KEYS: dict[str, tuple[str, ...]] = {
    "processed_events": ("tenant_id", "event_id"),
    "user_activity": ("tenant_id", "user_id", "kafka_partition"),
    "user_sessions": ("tenant_id", "user_id", "kafka_partition", "session_id"),
    "user_sessions_open": ("tenant_id", "user_id", "kafka_partition"),
    "product_views": ("tenant_id", "hour", "product_id", "kafka_partition"),
    "product_views_users": ("tenant_id", "hour", "user_id", "kafka_partition"),
    "activity_hourly": ("tenant_id", "hour", "event_type", "kafka_partition"),
    "activity_hourly_users": ("tenant_id", "hour", "user_id", "kafka_partition"),
    "user_activity_types": ("tenant_id", "user_id", "kafka_partition", "event_type", "meaning"),
    "activity_hourly_type_users": ("tenant_id", "hour", "event_type", "user_id", "kafka_partition"),
}
CATALOGUE = Path(__file__).parents[2] / "contracts" / "event_types.toml"
# What a user's columns count, of each type that they are named after; every other type has rows.
COLUMNS = {"opens_session": "logins", "closes_session": "logouts", "views_product": "product_views"}
NAMED = {"LOGIN": "opens_session", "LOGOUT": "closes_session", "PRODUCT_VIEW": "views_product"}
BITS = {"LOGIN": 1, "LOGOUT": 2, "PRODUCT_VIEW": 4}
KEPT_PRODUCTS = 201  # distinct products that are kept of a session, at most


class Record(NamedTuple):
    """One record of the log, as a plain consumer reads it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


class Event(NamedTuple):
    """A record's event, decoded by the standard library. `meaning`: that of its type; `product`: what it views."""

    event_id: UUID
    user_id: str
    event_type: str
    timestamp: datetime
    payload: dict[str, Any]
    tenant_id: str
    meaning: str
    product: str | None


def types_of(catalogue: Path = CATALOGUE) -> dict[str, dict[str, Any]]:
    """Reads what the catalogue declares of each event type."""
    return tomllib.loads(catalogue.read_text())


SHIPPED: Mapping[str, Mapping[str, Any]] = types_of()


def decode(value: bytes, types: Mapping[str, Mapping[str, Any]] = SHIPPED) -> Event:
    """Decodes a record's event, by what `types` say of its type. Raises ValueError or KeyError if it is none."""
    fields = json.loads(value)
    declared = types.get(fields["eventType"], {})
    return Event(
        UUID(fields["eventId"]),
        fields["userId"],
        fields["eventType"],
        datetime.fromisoformat(fields["timestamp"]).astimezone(UTC),
        fields["payload"],
        fields.get("tenantId", "default"),
        declared.get("means", "nothing"),
        _product(fields["payload"], declared.get("product")),
    )


def fold(records: Iterable[Record]) -> Tables:
    """Computes all tables from the records in the order of each partition. Only an event's first record counts."""
    tables: Tables = {table: {} for table in KEYS}
    for record in records:
        assert record.value is not None
        event = decode(record.value)
        if (event.tenant_id, event.event_id) not in tables["processed_events"]:
            tables["processed_events"][event.tenant_id, event.event_id] = _event_row(record, event)
            _user_activity(tables["user_activity"], record.partition, event)
            _user_types(tables["user_activity_types"], record.partition, event)
            _sessions(tables, record.partition, event)
            _product_views(tables, record.partition, event)
            _activity_hourly(tables, record.partition, event)
    return tables


def _event_row(record: Record, event: Event) -> Row:
    assert record.value is not None
    return {
        "tenant_id": event.tenant_id,
        "event_id": event.event_id,
        "kafka_partition": record.partition,
        "kafka_offset": record.offset,
        "user_id": event.user_id,
        "event_type": event.event_type,
        "occurred_at": event.timestamp,
        "payload": event.payload,
        "event_json": record.value.decode(),
    }


def _user_activity(table: dict[Key, Row], partition: int, event: Event) -> None:
    at, product = event.timestamp, event.product
    row = table.setdefault(
        (event.tenant_id, event.user_id, partition),
        {
            "tenant_id": event.tenant_id,
            "user_id": event.user_id,
            "kafka_partition": partition,
            "first_seen": at,
            "last_seen": at,
            **dict.fromkeys(("logins", "logouts", "product_views"), 0),
            **dict.fromkeys(("last_login_at", "logged_in", "changed_at", "last_product_id", "last_product_at")),
        },
    )
    row["first_seen"], row["last_seen"] = min(row["first_seen"], at), max(row["last_seen"], at)
    if event.meaning in COLUMNS:
        row[COLUMNS[event.meaning]] += 1
    if event.meaning == "opens_session":
        row["last_login_at"] = at
    if event.meaning in ("opens_session", "closes_session"):
        row["logged_in"], row["changed_at"] = event.meaning == "opens_session", at
    if product is not None:
        row["last_product_id"], row["last_product_at"] = product, at


def _user_types(table: dict[Key, Row], partition: int, event: Event) -> None:
    if NAMED.get(event.event_type) == event.meaning:
        return
    key = (event.tenant_id, event.user_id, partition, event.event_type, event.meaning)
    named = dict(zip(KEYS["user_activity_types"], key, strict=True))
    table.setdefault(key, {**named, "events": 0})["events"] += 1


def _sessions(tables: Tables, partition: int, event: Event) -> None:
    owner = (event.tenant_id, event.user_id, partition)
    now, ended = tables["user_sessions_open"], tables["user_sessions"]
    if event.meaning == "nothing":
        return
    if event.meaning == "views_product":
        if owner in now:
            product, seen = event.product, now[owner]["products"]
            now[owner]["views"] += 1
            if product is not None and product not in seen and len(seen) < KEPT_PRODUCTS:
                seen.append(product)
        return
    if owner in now:
        session = now.pop(owner)
        ended[(*owner, session["session_id"])] = {
            **session,
            "ended_at": event.timestamp,
            "ended_by": event.event_type,
        }
    if event.meaning == "opens_session":
        now[owner] = {
            "tenant_id": event.tenant_id,
            "user_id": event.user_id,
            "kafka_partition": partition,
            "session_id": event.event_id,
            "started_at": event.timestamp,
            "views": 0,
            "products": [],
        }


def _product_views(tables: Tables, partition: int, event: Event) -> None:
    product = event.product
    if product is None:
        return
    hour = _hour(event)
    head = {"tenant_id": event.tenant_id, "hour": hour, "kafka_partition": partition}
    visit = tables["product_views_users"].setdefault(
        (event.tenant_id, hour, event.user_id, partition), {**head, "user_id": event.user_id, "products": []}
    )
    row = tables["product_views"].setdefault(
        (event.tenant_id, hour, product, partition), {**head, "product_id": product, "views": 0, "users": 0}
    )
    row["views"] += 1
    if product not in visit["products"]:
        visit["products"].append(product)
        row["users"] += 1


def _activity_hourly(tables: Tables, partition: int, event: Event) -> None:
    hour, kind = _hour(event), event.event_type
    head = {"tenant_id": event.tenant_id, "hour": hour, "kafka_partition": partition}
    visit = tables["activity_hourly_users"].setdefault(
        (event.tenant_id, hour, event.user_id, partition), {**head, "user_id": event.user_id, "types": 0}
    )
    row = tables["activity_hourly"].setdefault(
        (event.tenant_id, hour, kind, partition), {**head, "event_type": kind, "events": 0, "users": 0}
    )
    row["events"] += 1
    others, other = tables["activity_hourly_type_users"], (event.tenant_id, hour, kind, event.user_id, partition)
    if kind in BITS:
        row["users"] += not visit["types"] & BITS[kind]
        visit["types"] |= BITS[kind]
    elif other not in others:
        others[other] = dict(zip(KEYS["activity_hourly_type_users"], other, strict=True))
        row["users"] += 1


def _hour(event: Event) -> datetime:
    return event.timestamp.replace(minute=0, second=0, microsecond=0)


def _product(payload: dict[str, Any], field: str | None) -> str | None:
    product = None if field is None else payload.get(field)
    fit = isinstance(product, str) and 0 < len(product) <= 256
    if not fit or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in str(product)):
        return None
    return str(product)
