"""Events put straight into the read model, for tests of the query side.

A twin tenant has an event of the same id, user and time beside each: no answer may have a byte of it.
"""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from contracts.event import UserEvent
from contracts.versions import encode_event

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

INSERT = """
INSERT INTO read_g1.processed_events (kafka_offset, occurred_at, recorded_at, event_id, kafka_partition, kafka_topic,
                                      user_id, event_type, payload, event_json, tenant_id)
VALUES ($1, $2::text::timestamptz, $2::text::timestamptz, $3, $8, 't', $4, $5, $6, $7, $9)
"""

TWIN = "twin"
TWINS_PARTITION = 99  # which no checkpoint knows: the twin's events are in no feed


def event(number: int, **fields: Any) -> UserEvent:
    """An event whose id and time tell its number."""
    made = {
        "event_id": UUID(int=(0x0198_0000_0000_7000_8000 << 48) + number),
        "user_id": f"user-{number}",
        "event_type": "LOGIN",
        "timestamp": NOON + timedelta(seconds=number),
        "payload": {"n": number},
    }
    return UserEvent(**{**made, **fields})


def wire(one: UserEvent) -> Any:
    """The event as an answer shows it."""
    return json.loads(encode_event(one))


def twin_of(one: UserEvent) -> UserEvent:
    """The twin tenant's event: only tenant and payload are another."""
    payload = {**one.payload, "twin": "another tenant's"}
    return msgspec.structs.replace(one, tenant_id=TWIN, payload=payload)


async def store_async(url: str, events: Sequence[UserEvent]) -> None:
    """Stores the events as the owner of the database."""
    connection = await asyncpg.connect(url)
    try:
        rows = [
            (
                number,
                one.timestamp.isoformat(),
                one.event_id,
                one.user_id,
                one.event_type,
                json.dumps(one.payload),
                encode_event(one).decode(),
                partition,
                one.tenant_id,
            )
            for number, event in enumerate(events)
            for one, partition in ((event, 0), (twin_of(event), TWINS_PARTITION))
        ]
        await connection.executemany(INSERT, rows)
    finally:
        await connection.close()


def store(url: str, *events: UserEvent) -> None:
    """Stores the events."""
    asyncio.run(store_async(url, events))
