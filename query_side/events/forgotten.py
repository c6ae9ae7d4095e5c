"""What retention took away (docs/retention.md): so that an answer tells "gone" from "not there, or not yet"."""

import time
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from query_side.events.queries import Executor
from read_model.names import READ
from read_model.wire_time import wire_time

A_DAY = 86_400  # seconds: nothing younger is ever deleted
VERSION_OF_TIMES = 7  # of UUIDs that begin with the moment at which they were made

BEFORE = f"SELECT max(before) FROM {READ}.forgotten WHERE tenant_id = $1"  # noqa: S608 - constants
UNTIL = f"SELECT until_offset FROM {READ}.forgotten WHERE tenant_id = $1 AND kafka_partition = $2"  # noqa: S608


class Forgotten(msgspec.Struct, frozen=True):
    """What is said of an event that is not there. `surely`: its id was made at a time of which nothing is kept."""

    surely: bool
    sentence: str


async def forgotten(executor: Executor, tenant_id: str, event_id: UUID) -> Forgotten | None:
    """Returns what is said of an event that is not there; None: retention cannot be the reason."""
    made = made_at(event_id)
    if made is not None and made > time.time() - A_DAY:
        return None
    before: datetime | None = await executor.fetchval(BEFORE, tenant_id)
    if before is None or (made is not None and made >= before.timestamp()):
        return None
    return Forgotten(made is not None, f"Events from before {wire_time(before.astimezone(UTC))} may be deleted.")


def made_at(event_id: UUID) -> float | None:
    """Returns when the id was made, in seconds since 1970; None if it does not tell."""
    return (event_id.int >> 80) / 1_000 if event_id.version == VERSION_OF_TIMES else None


async def is_forgotten_at(executor: Executor, tenant_id: str, partition: int, offset: int) -> bool:
    """Whether events of the tenant from behind this position were deleted because of their age."""
    until: int | None = await executor.fetchval(UNTIL, tenant_id, partition)
    return until is not None and offset < until
