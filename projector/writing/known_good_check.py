"""The known-good check: when a record fails, does an event that was applied before still succeed?"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable
from uuid import UUID

import msgspec
import uuid_utils

from contracts.event import UserEvent
from contracts.record import from_value, partition_key
from contracts.versions import encode_event
from projector.writing.rows import EventRow, KafkaRecord
from read_model.connecting.pool import Connection

CANDIDATES = 3  # events to try, each of another user: all events of one user may fail for the same reason

LATEST = """
SELECT kafka_partition, event_json FROM {generation}.processed_events
ORDER BY tenant_id DESC, occurred_at DESC, event_id DESC LIMIT 200
"""

ARTIFICIAL_USER = "footfall-known-good"  # the user of an artificial event, when there is no stored event to copy


class AppliesRows(Protocol):
    """What a check tries: a writer of rows into one generation."""

    @property
    def generation(self) -> str:
        """The generation's schema."""
        ...

    async def apply(self, connection: Connection, rows: Sequence[EventRow]) -> list[EventRow]:
        """Stores rows in the connection's transaction; returns those that were stored before."""
        ...


@runtime_checkable
class KnowsGood(Protocol):
    """A writer whose rows are not in PostgreSQL, which knows how to try one that is stored."""

    async def stored_row_fails(self) -> Exception | None:
        """Returns why a stored row could not be written now; None: it could."""
        ...


class _RollbackError(Exception):
    """Leaves the transaction of the check, so that it is rolled back."""


async def known_good_fails(connection: Connection, writer: AppliesRows, suspect: KafkaRecord) -> Exception | None:
    """Applies copies of events that were applied before, and rolls them back.

    It tries up to `CANDIDATES` events of different users, if possible from the suspect's partition. It leaves out the
    events of the suspect's key, because they may fail for the same reason.

    Returns:
        None if a copy can be applied; else the error of the last attempt.
    """
    if isinstance(writer, KnowsGood):
        return await writer.stored_row_fails()
    failed: Exception | None = None
    try:
        for event in await _known_good(connection, writer.generation, suspect):
            failed = await _try(connection, writer, _row_of(event, suspect))
            if failed is None:
                return None
    except Exception as error:  # noqa: BLE001 - then even reading the stored events fails
        return error
    return failed


async def _known_good(connection: Connection, generation: str, suspect: KafkaRecord) -> list[UserEvent]:
    latest = await connection.fetch(LATEST.format(generation=generation))
    here = [row["event_json"].encode() for row in latest if row["kafka_partition"] == suspect.partition]
    anywhere = [row["event_json"].encode() for row in latest]
    return _candidates(here, suspect.key) or _candidates(anywhere, suspect.key) or [_artificial_event()]


def _candidates(latest: Sequence[bytes], excluded_key: bytes | None) -> list[UserEvent]:
    """Returns the latest event of each of up to `CANDIDATES` users."""
    found: dict[bytes, UserEvent] = {}
    for value in latest:
        event = from_value(value)
        if isinstance(event, UserEvent) and partition_key(event) != excluded_key:
            found.setdefault(partition_key(event), event)
    return list(found.values())[:CANDIDATES]


def _artificial_event() -> UserEvent:
    return UserEvent(UUID(int=0), ARTIFICIAL_USER, "PRODUCT_VIEW", datetime.now(UTC), {"productId": ARTIFICIAL_USER})


def _row_of(event: UserEvent, suspect: KafkaRecord) -> EventRow:
    copy = msgspec.structs.replace(event, event_id=UUID(int=uuid_utils.uuid7().int))
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    payload = msgspec.json.encode(copy.payload)
    return EventRow(copy, suspect.topic, suspect.partition, suspect.offset, now_ms, encode_event(copy), payload)


async def _try(connection: Connection, writer: AppliesRows, row: EventRow) -> Exception | None:
    try:
        async with connection.transaction():
            await writer.apply(connection, [row])
            raise _RollbackError
    except _RollbackError:
        return None
    except Exception as error:  # noqa: BLE001 - an error of a known-good event is not the suspect's fault
        return error
