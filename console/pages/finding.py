"""`/console/find`: one box for whatever somebody has in their hand."""

import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from litestar import Response, get

from console.asking import AnyRequest, Asking, PageError, TheConsole
from contracts.derived_ids import KeySpace, derived_event_id
from operations.doctor.examine import AWAY
from operations.log_search import RecordFacts, Searched, records_at, search
from query_side.activity.queries import user_activity, user_sessions
from query_side.events.queries import get_event_by_id

LONGEST = 256  # characters
SOON = 2.0  # seconds for what the log says of the events that were found
PATIENCE = 8.0  # seconds for a search through the log
BUSY = "Somebody searches the log at this moment. Try again in some seconds."
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
TIMELINE = """
SELECT event_id, event_type, occurred_at, kafka_partition, kafka_offset FROM read.processed_events
WHERE tenant_id = $1 AND user_id = $2 ORDER BY user_id DESC, occurred_at DESC, event_id DESC LIMIT 20
"""
_position = re.compile(r"([0-9]{1,6})-([0-9]{1,18})").fullmatch


@get("/console/find", include_in_schema=False)
async def find(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """What a text is: an event's id, a position, an idempotency key, a user; in the log, a request or a trace."""
    asking = console.asking(request)
    text = asking.query.get("q", "").strip()[:LONGEST].replace("\0", "")
    tenant = (asking.query.get("tenant") if asking.is_operator else None) or asking.principal.tenant_id
    if not text:
        return asking.page("find.html", text="", found=None, tenant=tenant, searched=None)
    at = _position(text)
    place = (int(at[1]), int(at[2])) if at else (None, None)
    ids = ids_of(tenant, text)
    async with console.pool().acquire() as connection:
        events = await connection.fetch(AT, tenant, ids, *place)
        letters = await connection.fetch(LETTER, asking.tenant, [str(each) for each in ids], *place)
        activity = await user_activity(connection, tenant, text)
        sessions = (await user_sessions(connection, tenant, text, None, 10))[0] if activity else []
        timeline = await connection.fetch(TIMELINE, tenant, text) if activity else []
        texts = {row["event_id"]: await get_event_by_id(connection, tenant, row["event_id"]) for row in events}
    found: dict[str, Any] = {"events": events, "letters": letters, "activity": activity, "sessions": sessions}
    places = [(row["kafka_partition"], row["kafka_offset"]) for row in events]
    found |= {"timeline": timeline, "texts": texts, "facts": await facts_of(asking, places)}
    searched = await searched_log(asking, text) if asking.is_operator and asking.query.get("log") else None
    return asking.page("find.html", text=text, tenant=tenant, found=found, searched=searched)


async def facts_of(asking: Asking, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], RecordFacts]:
    """Request and trace of each event, which only the log has; nothing while Kafka is away."""
    try:
        return await records_at(asking.console.projecting, places, SOON) if places else {}
    except AWAY:
        return {}


async def searched_log(asking: Asking, text: str) -> Searched:
    """The newest records of this request or trace. One at a time: it reads a lot. Raises PageError."""
    searching = asking.console.searching
    if searching.locked():
        raise PageError(429, BUSY)
    async with searching:
        try:
            return await search(asking.console.projecting, text, PATIENCE)
        except AWAY:
            raise PageError(503, "Kafka does not answer now. The overview says more.") from None


def ids_of(tenant: str, text: str) -> list[UUID]:
    """The events that a text may name: by their id, or by the idempotency key of their command."""
    try:
        return [UUID(text)]
    except ValueError:
        return [derived_event_id(KeySpace(tenant), text.encode())]


FIND_ROUTES = (find,)
