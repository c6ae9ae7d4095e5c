"""Events put straight into the read model, for tests of the query side."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from contracts.event import UserEvent
from contracts.versions import encode_event

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

INSERT = """
INSERT INTO read_g1.processed_events (kafka_offset, occurred_at, recorded_at, event_id, kafka_partition, kafka_topic,
                                      user_id, event_type, payload, event_json, tenant_id)
VALUES ($1, $2::text::timestamptz, $2::text::timestamptz, $3, 0, 't', $4, $5, $6, $7, 'default')
"""


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
            )
            for number, one in enumerate(events)
        ]
        await connection.executemany(INSERT, rows)
    finally:
        await connection.close()


def store(url: str, *events: UserEvent) -> None:
    """Stores the events."""
    asyncio.run(store_async(url, events))
