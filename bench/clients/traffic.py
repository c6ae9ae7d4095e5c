"""Generates realistic input: the same seed gives the same users, products and bodies."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import uuid_utils

from contracts.event import ActivityCommand, UserEvent

KINDS: tuple[str, ...] = ("PRODUCT_VIEW", "LOGIN", "LOGOUT")
SHARES = (80, 12, 8)  # of 100 events
USERS = 5_000
PRODUCTS = 2_000
REFERRERS = ("https://www.google.com/", "https://news.example.com/today", "https://shop.example.com/sale", "direct")
AGENTS = ("Mozilla/5.0 (iPhone; CPU iPhone OS 19_1)", "Mozilla/5.0 (X11; Linux x86_64)", "FootfallApp/4.2 (Android 16)")

_encode = msgspec.json.Encoder().encode


def commands(seed: int) -> Iterator[ActivityCommand]:
    """Yields endless commands of `USERS` users: mostly product views, some logins and logouts."""
    chance = random.Random(seed)
    while True:
        kind = chance.choices(KINDS, SHARES)[0]
        yield ActivityCommand(f"user-{chance.randrange(USERS):05}", kind, payload(kind, chance))


def payload(kind: str, chance: random.Random) -> dict[str, object]:
    """Returns the payload that a web shop would send for one action."""
    address = f"10.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(1, 255)}"
    if kind == "PRODUCT_VIEW":
        return {
            "productId": f"p-{chance.randrange(PRODUCTS)}",
            "price": round(chance.uniform(1, 900), 2),
            "referrer": chance.choice(REFERRERS),
            "ip": address,
        }
    if kind == "LOGIN":
        return {"ip": address, "userAgent": chance.choice(AGENTS), "mfa": chance.random() < 0.3}
    return {"ip": address, "sessionSeconds": chance.randrange(5, 7200)}


def bodies(seed: int, count: int) -> list[bytes]:
    """Returns `count` request bodies, as a client sends them."""
    source = commands(seed)
    return [_encode(next(source)) for _ in range(count)]


def events(seed: int, count: int) -> Iterator[UserEvent]:
    """Yields `count` events with the current time; their ids are UUIDv7."""
    source = commands(seed)
    for _ in range(count):
        command = next(source)
        yield UserEvent(
            UUID(int=uuid_utils.uuid7().int),
            command.user_id,
            command.event_type,
            datetime.now(UTC),
            command.payload,
        )
