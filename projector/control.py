"""The control experiment: when a record fails, does one that is known to be good still succeed?"""

from datetime import UTC, datetime
from uuid import UUID

import msgspec
import uuid_utils

from contracts.record import from_value
from contracts.rules import Problems
from contracts.versions import encode_event
from projector.commit import GenerationWriter
from projector.connection import Connection
from projector.failure import TRANSIENT
from projector.rows import EventRow

KNOWN_GOOD = """
SELECT event_json FROM {generation}.processed_events ORDER BY tenant_id DESC, occurred_at DESC, event_id DESC LIMIT 1
"""


class _UndoneError(Exception):
    """Leaves the transaction of the experiment, so that nothing of it stays."""


async def known_good_succeeds(connection: Connection, writer: GenerationWriter, topic: str) -> bool:
    """Applies a copy of an event that was applied before, and undoes it. False if that fails, or there is none.

    Raises what is transient: it says nothing of the record.
    """
    stored = await connection.fetchval(KNOWN_GOOD.format(generation=writer.generation))
    event = from_value(None if stored is None else stored.encode())
    if isinstance(event, Problems):
        return False
    copy = msgspec.structs.replace(event, event_id=UUID(int=uuid_utils.uuid7().int))
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    row = EventRow(copy, topic, 0, 0, now_ms, encode_event(copy), msgspec.json.encode(copy.payload))
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
