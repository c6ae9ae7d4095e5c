"""Asks for the erasure of a user: publishes a marker into every partition, without I/O beside the log's.

That the log has the markers is the promise: each projector deletes the rows when it reaches them (docs/privacy.md).
"""

import msgspec

from command_side.publishing.event_log import ACKNOWLEDGED, NOT_TAKEN, Acknowledged, EventLog, NotTaken, Outcome
from contracts.erasure import UserErasure, erasure_records, new_erasure


class Requested(msgspec.Struct, frozen=True):
    """Every partition has the marker. `positions`: where, as far as Kafka can tell."""

    erasure: UserErasure
    positions: list[Acknowledged]


class NotRequested(msgspec.Struct, frozen=True):
    """Some partition has no marker, or nobody knows. To ask again does no harm. `outcome`: of such a partition."""

    outcome: Outcome


class Erasures:
    """Publishes erasures to a log."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def request(
        self, tenant_id: str, user_id: str, request_id: str, actor: str
    ) -> Requested | NotRequested | NotTaken:
        """Publishes the markers. `request_id`: visible ASCII. `actor`: who asks, for the audit log."""
        erasure = new_erasure(tenant_id, user_id)
        records = erasure_records(erasure, request_id, await self._log.partition_count(), actor)
        outcomes = await self._log.publish_all(records)
        if isinstance(outcomes, NOT_TAKEN):
            return outcomes
        missing = next((outcome for outcome in outcomes if not isinstance(outcome, ACKNOWLEDGED)), None)
        if missing is not None:
            return NotRequested(missing)
        return Requested(erasure, [outcome for outcome in outcomes if isinstance(outcome, Acknowledged)])
