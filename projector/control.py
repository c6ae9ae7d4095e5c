"""The control experiment: when a record fails, does one that is known to be good still succeed?"""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import uuid_utils

from contracts.event import UserEvent
from contracts.record import from_value, partition_key
from contracts.versions import encode_event
from projector.commit import GenerationWriter
from projector.connection import Connection
from projector.failure import TRANSIENT
from projector.rows import EventRow

TRIES = 3  # events, each of another user: what fails one user may fail all of that user's events

LATEST = """
SELECT event_json FROM {generation}.processed_events ORDER BY tenant_id DESC, occurred_at DESC, event_id DESC LIMIT 100
"""

NOBODY = "footfall-control"  # the user of an event made up for the purpose, when there is none to copy
NOWHERE = -1  # a partition that no projector writes, so that the experiment waits for nobody's rows


class _UndoneError(Exception):
    """Leaves the transaction of the experiment, so that nothing of it stays."""


async def known_good_succeeds(
    connection: Connection, writer: GenerationWriter, topic: str, besides: bytes | None = None
) -> bool:
    """Whether an event that was applied before could be applied now, as a copy, which is undone.

    Up to `TRIES` of different users are tried, none of the key `besides`, whose events may be what fails. Raises what
    is transient: it says nothing of the record.
    """
    stored = await connection.fetch(LATEST.format(generation=writer.generation))
    for event in _candidates([row["event_json"].encode() for row in stored], besides):
        if await _succeeds(connection, writer, _row_of(event, topic)):
            return True
    return False


def _candidates(latest: Sequence[bytes], besides: bytes | None) -> list[UserEvent]:
    """The latest event of each of a few users; an event of nobody when there is none."""
    found: dict[bytes, UserEvent] = {}
    for value in latest:
        event = from_value(value)
        if isinstance(event, UserEvent) and partition_key(event) != besides:
            found.setdefault(partition_key(event), event)
    return list(found.values())[:TRIES] or [
        UserEvent(UUID(int=0), NOBODY, "PRODUCT_VIEW", datetime.now(UTC), {"productId": NOBODY})
    ]


def _row_of(event: UserEvent, topic: str) -> EventRow:
    copy = msgspec.structs.replace(event, event_id=UUID(int=uuid_utils.uuid7().int))
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    return EventRow(copy, topic, NOWHERE, 0, now_ms, encode_event(copy), msgspec.json.encode(copy.payload))


async def _succeeds(connection: Connection, writer: GenerationWriter, row: EventRow) -> bool:
    try:
        async with connection.transaction():
            await writer.apply(connection, [row])
            raise _UndoneError
    except _UndoneError:
        return True
    except TRANSIENT:
        raise
    except Exception:  # noqa: BLE001 - whatever fails a good event is not the record's fault
        return False
