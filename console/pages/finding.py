"""`/console/find`: one box for whatever somebody has in their hand."""

import re
from typing import Any
from uuid import UUID

from litestar import Response, get

from console.asking import AnyRequest, TheConsole
from contracts.derived_ids import KeySpace, derived_event_id
from query_side.activity.queries import user_activity, user_sessions
from query_side.events.queries import get_event_by_id

LONGEST = 256  # characters
AT = """
SELECT event_id, user_id, event_type, occurred_at, recorded_at, projected_at, kafka_partition, kafka_offset
FROM read.processed_events WHERE tenant_id = $1 AND (event_id = ANY($2::uuid[])
    OR kafka_partition = $3 AND kafka_offset = $4) LIMIT 5
"""
LETTER = """
SELECT kafka_topic, kafka_partition, kafka_offset, state, cause, error_class, error_message
FROM read.dead_letters WHERE ($1::text IS NULL OR tenant_id = $1)
    AND (event_id = ANY($2::text[]) OR kafka_partition = $3 AND kafka_offset = $4) LIMIT 5
"""
_position = re.compile(r"([0-9]{1,6})-([0-9]{1,18})").fullmatch


@get("/console/find", include_in_schema=False)
async def find(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """What a text is: an event's id, a position, an idempotency key, or a user."""
    asking = console.asking(request)
    text = asking.query.get("q", "").strip()[:LONGEST].replace("\0", "")
    tenant = (asking.query.get("tenant") if asking.is_operator else None) or asking.principal.tenant_id
    if not text:
        return asking.page("find.html", text="", found=None, tenant=tenant)
    at = _position(text)
    place = (int(at[1]), int(at[2])) if at else (None, None)
    ids = ids_of(tenant, text)
    async with console.pool().acquire() as connection:
        events = await connection.fetch(AT, tenant, ids, *place)
        letters = await connection.fetch(LETTER, asking.tenant, [str(each) for each in ids], *place)
        activity = await user_activity(connection, tenant, text)
        sessions = (await user_sessions(connection, tenant, text, None, 10))[0] if activity else []
        texts = {row["event_id"]: await get_event_by_id(connection, tenant, row["event_id"]) for row in events}
    found: dict[str, Any] = {"events": events, "letters": letters, "activity": activity, "sessions": sessions}
    return asking.page("find.html", text=text, tenant=tenant, found={**found, "texts": texts}, ids=ids)


def ids_of(tenant: str, text: str) -> list[UUID]:
    """The events that a text may name: by their id, or by the idempotency key of their command."""
    try:
        return [UUID(text)]
    except ValueError:
        return [derived_event_id(KeySpace(tenant), text.encode())]


FIND_ROUTES = (find,)
