"""Three tenants whose users, event ids, keys and products have the same names, and what each of them may see.

Every text that is one tenant's own contains its mark, so a foreign byte is found by looking for another's mark.
"""

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from contracts.event import UserEvent
from contracts.record import key_of
from contracts.versions import encode_event
from tests.producing import Raw

TENANTS = ("default", "acme", "bolt")
MARKS = {"default": "sees-default", "acme": "sees-acme", "bolt": "sees-bolt"}
# The key of acme's `bob` was once that of the default tenant's `acme/bob`.
USERS = ("ann", "bob", "acme/bob", "bolt.ann", "ä ü/..")
PRODUCTS = ("p-1", "p-2", "p-3")
TYPES = ("LOGIN", "PRODUCT_VIEW", "PRODUCT_VIEW", "LOGOUT")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Tenant:
    """One tenant: its events in the order of time, its records that cannot be applied, and what it was given."""

    tenant_id: str
    events: list[UserEvent]
    poison: list[Raw]
    cursors: list[tuple[str, str]] = field(default_factory=list)  # parameter and text
    positions: list[str] = field(default_factory=list)
    tags: list[tuple[str, str]] = field(default_factory=list)  # path and entity tag

    @property
    def headers(self) -> dict[str, str]:
        """What makes a request this tenant's."""
        return {"test-tenant": self.tenant_id}

    def json_of(self, events: Sequence[UserEvent]) -> list[Any]:
        """The events as answers show them."""
        return [json.loads(encode_event(event)) for event in events]

    def of_user(self, user: str) -> list[UserEvent]:
        """One user's events."""
        return [event for event in self.events if event.user_id == user]

    def views(self) -> list[dict[str, Any]]:
        """The ranking of products."""
        counts = Counter(str(e.payload["productId"]) for e in self.events if e.event_type == "PRODUCT_VIEW")
        ranked = sorted(counts.items(), key=lambda found: (-found[1], found[0]))
        return [{"productId": product, "views": views} for product, views in ranked]

    def hours(self) -> Counter[tuple[datetime, str]]:
        """Events by hour and type."""
        return Counter(
            (event.timestamp.replace(minute=0, second=0, microsecond=0), event.event_type) for event in self.events
        )

    def knows(self, text: bytes) -> bool:
        """Whether the text has no other tenant's mark."""
        return not any(mark.encode() in text for tenant, mark in MARKS.items() if tenant != self.tenant_id)


def event_id(number: int) -> UUID:
    """The same for every tenant."""
    return UUID(int=(0x0198_0000_0000_7000_8000 << 48) + number)


def a_tenant(tenant_id: str, count: int) -> Tenant:
    """Its history: of `count` numbers, those that this tenant has."""
    chance, mark, events = random.Random(tenant_id), MARKS[tenant_id], []
    for number in range(count):
        if chance.randrange(3):
            product = chance.choice((*PRODUCTS, f"p-{mark}"))
            events.append(
                UserEvent(
                    event_id(number),
                    chance.choice(USERS),
                    chance.choice(TYPES),
                    NOON + timedelta(minutes=number, microseconds=chance.randrange(2)),
                    {"productId": product, "mark": mark, "n": number},
                    tenant_id,
                )
            )
    return Tenant(tenant_id, events, [poison_of(tenant_id, count + n) for n in range(3)])


def poison_of(tenant_id: str, number: int) -> Raw:
    """A record that cannot be applied: it has a field, in the tenant's own words, that the event does not know."""
    value = json.dumps({"eventId": str(event_id(number)), f"field-{MARKS[tenant_id]}": 1}).encode()
    return Raw(value, key_of(tenant_id, f"lost-{number}"), headers=[("event-id", str(event_id(number)).encode())])


def records(tenants: Sequence[Tenant]) -> list[Raw]:
    """Everything, as producers would write it side by side."""
    found = [
        (event.event_id.int, Raw(encode_event(event), key_of(tenant.tenant_id, event.user_id)))
        for tenant in tenants
        for event in tenant.events
    ]
    found += [(event_id(10**6).int, record) for tenant in tenants for record in tenant.poison]
    return [record for _, record in sorted(found, key=lambda one: one[0])]
