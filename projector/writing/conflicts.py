"""Finds different events under one id: the client used one idempotency key for two commands (docs/idempotency.md).

The command side refuses the second command if it remembers the key. It may have forgotten the key, or another of its
processes may have accepted the first command; then the conflict appears here. As for any duplicate, the first event is
kept. The conflict is counted.
"""

from collections.abc import Sequence

from contracts.event import UserEvent
from contracts.record import from_value
from projector.writing.connection import Connection
from projector.writing.rows import EventRow

STORED = """
SELECT stored.tenant_id, stored.event_id, stored.event_json FROM {generation}.processed_events AS stored
JOIN unnest($1::text[], $2::uuid[]) AS wanted(tenant_id, event_id) USING (tenant_id, event_id)
"""


def differ(first: UserEvent, repeat: UserEvent) -> bool:
    """Returns whether two events of one id describe different activities; their timestamps do not matter."""
    return (first.user_id, first.event_type, first.payload) != (repeat.user_id, repeat.event_type, repeat.payload)


async def conflicting(connection: Connection, generation: str, repeats: Sequence[EventRow]) -> list[EventRow]:
    """Returns the repeats that differ from the stored event of the same id."""
    if not repeats:
        return []
    found = await connection.fetch(
        STORED.format(generation=generation),
        [row.event.tenant_id for row in repeats],
        [row.event.event_id for row in repeats],
    )
    stored = {(row["tenant_id"], row["event_id"]): from_value(row["event_json"].encode()) for row in found}
    conflicts = []
    for row in repeats:
        first = stored.get((row.event.tenant_id, row.event.event_id))
        if isinstance(first, UserEvent) and differ(first, row.event):
            conflicts.append(row)
    return conflicts
