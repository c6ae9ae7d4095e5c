"""Asks for the erasure of a user: publishes a marker into every partition, without I/O beside the log's.

That the log has the markers is the promise: each projector deletes the rows when it reaches them (docs/privacy.md).
"""

from typing import Protocol

import msgspec

from command_side.publishing.event_log import (
    ACKNOWLEDGED,
    KEYS_AWAY,
    NOT_TAKEN,
    Acknowledged,
    EventLog,
    NotTaken,
    Outcome,
)
from contracts.erasure import (
    Fenced,
    UserErasure,
    erasure_records,
    new_erasure,
    sealed_erasure_records,
    what_remains,
    what_remains_sealed,
)


class Requested(msgspec.Struct, frozen=True):
    """Every partition has the marker. `positions`: where, as far as Kafka can tell."""

    erasure: UserErasure
    positions: list[Acknowledged]


class NotRequested(msgspec.Struct, frozen=True):
    """Some partition has no marker, or nobody knows. To ask again does no harm. `outcome`: of such a partition."""

    outcome: Outcome


class Fences(Protocol):
    """Keeps everybody from sealing further events for what a user's subjects are now."""

    async def fence(self, erasure: UserErasure) -> Fenced | None:
        """Retires the user's subjects; None: the key store cannot be used."""
        ...


class Erasures:
    """Publishes erasures to a log."""

    def __init__(self, log: EventLog, fences: Fences | None = None) -> None:
        """`log`: takes markers as they are. `fences`: retire the subjects of users; None: the log is not sealed."""
        self._log = log
        self._fences = fences
        self.remains = what_remains("The log") if fences is None else what_remains_sealed()

    async def request(
        self, tenant_id: str, user_id: str, request_id: str, actor: str
    ) -> Requested | NotRequested | NotTaken:
        """Publishes the markers. `request_id`: visible ASCII. `actor`: who asks, for the audit log."""
        erasure = new_erasure(tenant_id, user_id)
        partitions = await self._log.partition_count()
        if self._fences is None:
            records = erasure_records(erasure, request_id, partitions, actor)
        else:
            fenced = await self._fences.fence(erasure)
            if fenced is None:
                return NotRequested(KEYS_AWAY)
            records = sealed_erasure_records(erasure, fenced, request_id, partitions, actor)
        outcomes = await self._log.publish_all(records)
        if isinstance(outcomes, NOT_TAKEN):
            return outcomes
        missing = next((outcome for outcome in outcomes if not isinstance(outcome, ACKNOWLEDGED)), None)
        if missing is not None:
            return NotRequested(missing)
        return Requested(erasure, [outcome for outcome in outcomes if isinstance(outcome, Acknowledged)])
