"""The known-good check: when a record fails, does an event that was applied before still succeed?"""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import uuid_utils

from contracts.event import UserEvent
from contracts.record import from_value, partition_key
from contracts.versions import encode_event
from projector.writing.commit import GenerationWriter
from projector.writing.connection import Connection
from projector.writing.rows import EventRow, KafkaRecord

TRIES = 3  # events, each of another user: what fails one user may fail all of that user's events

LATEST = """
SELECT kafka_partition, event_json FROM {generation}.processed_events
ORDER BY tenant_id DESC, occurred_at DESC, event_id DESC LIMIT 200
"""

NOBODY = "footfall-control"  # the user of an event made up for the purpose, when there is none to copy


class _UndoneError(Exception):
    """Leaves the transaction of the check, so that nothing of it stays."""


async def known_good_fails(connection: Connection, writer: GenerationWriter, suspect: KafkaRecord) -> Exception | None:
    """What fails an event that was applied before and is applied again, as a copy; None when one succeeds.

    Up to `TRIES` of different users are tried, if possible of the suspect's partition, where their rows are; none of
    the suspect's key, whose events may be what fails. Nothing of it stays.
    """
    failed: Exception | None = None
    try:
        for event in await _known_good(connection, writer.generation, suspect):
            failed = await _try(connection, writer, _row_of(event, suspect))
            if failed is None:
                return None
    except Exception as error:  # noqa: BLE001 - then not even the look at what was applied succeeds
        return error
    return failed


async def _known_good(connection: Connection, generation: str, suspect: KafkaRecord) -> list[UserEvent]:
    latest = await connection.fetch(LATEST.format(generation=generation))
    here = [row["event_json"].encode() for row in latest if row["kafka_partition"] == suspect.partition]
    anywhere = [row["event_json"].encode() for row in latest]
    return _candidates(here, suspect.key) or _candidates(anywhere, suspect.key) or [_made_up()]


def _candidates(latest: Sequence[bytes], besides: bytes | None) -> list[UserEvent]:
    """The latest event of each of a few users."""
    found: dict[bytes, UserEvent] = {}
    for value in latest:
        event = from_value(value)
        if isinstance(event, UserEvent) and partition_key(event) != besides:
            found.setdefault(partition_key(event), event)
    return list(found.values())[:TRIES]


def _made_up() -> UserEvent:
    return UserEvent(UUID(int=0), NOBODY, "PRODUCT_VIEW", datetime.now(UTC), {"productId": NOBODY})


def _row_of(event: UserEvent, suspect: KafkaRecord) -> EventRow:
    copy = msgspec.structs.replace(event, event_id=UUID(int=uuid_utils.uuid7().int))
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    payload = msgspec.json.encode(copy.payload)
    return EventRow(copy, suspect.topic, suspect.partition, suspect.offset, now_ms, encode_event(copy), payload)


async def _try(connection: Connection, writer: GenerationWriter, row: EventRow) -> Exception | None:
    try:
        async with connection.transaction():
            await writer.apply(connection, [row])
            raise _UndoneError
    except _UndoneError:
        return None
    except Exception as error:  # noqa: BLE001 - whatever fails a good event is not the record's fault
        return error
