"""Stores the topic's events with FastStream's batch subscriber, as its documentation shows it; one INSERT a batch."""

import asyncio
import json
import os
from datetime import datetime
from typing import Annotated
from uuid import UUID

import asyncpg
from faststream import AckPolicy, Context, ContextRepo, FastStream
from faststream.kafka import KafkaBroker
from pydantic import BaseModel, Field

STORE = """
INSERT INTO events SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::jsonb[])
ON CONFLICT DO NOTHING
"""

broker = KafkaBroker(os.environ["KAFKA_BOOTSTRAP_SERVERS"])
app = FastStream(broker)


class Event(BaseModel):
    event_id: UUID = Field(alias="eventId")
    user_id: str = Field(alias="userId")
    event_type: str = Field(alias="eventType")
    timestamp: datetime
    payload: dict[str, object]


@app.on_startup
async def connect(context: ContextRepo) -> None:
    pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=2)
    context.set_global("pool", pool)


@broker.subscriber(
    os.environ["KAFKA_TOPIC"],
    group_id=os.environ["KAFKA_GROUP_ID"],
    auto_offset_reset="earliest",
    batch=True,
    max_records=5000,
    ack_policy=AckPolicy.REJECT_ON_ERROR,
)
async def store(events: list[Event], pool: Annotated[asyncpg.Pool, Context()]) -> None:
    rows = [(one.event_id, one.user_id, one.event_type, one.timestamp, json.dumps(one.payload)) for one in events]
    await pool.execute(STORE, *zip(*rows, strict=True))


if __name__ == "__main__":
    asyncio.run(app.run())
