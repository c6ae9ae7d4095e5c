"""One command, start to end: validate, create the event, publish it."""

from command_side.idempotency import Follow, KeyConflict, Lead, RecentKeys, Settled
from command_side.publishing.event_log import EventLog, Outcome, Submitted
from contracts.event import ActivityCommand
from contracts.record import new_record
from contracts.validation.rules import Problems, validate_user_event


class Commands:
    """Records activities in a log."""

    def __init__(self, log: EventLog, keys: RecentKeys) -> None:
        self._log = log
        self._keys = keys

    async def handle(
        self, body: bytes, request_id: str, key: bytes | None = None
    ) -> Submitted | Problems | KeyConflict:
        """Records one activity. Returns its record and what became of it, or why there is none.

        With an idempotency key, every repeat is the same event.
        """
        command = validate_user_event(body)
        if isinstance(command, Problems):
            return command
        if key is not None:
            return await self._once(key, command, request_id)
        record = new_record(command, request_id)
        return Submitted(record, await self._log.publish(record))

    async def _once(self, key: bytes, command: ActivityCommand, request_id: str) -> Submitted | KeyConflict:
        claim = self._keys.claim(self._keys.keyed(key, command, request_id))
        match claim:
            case KeyConflict():
                return claim
            case Lead():
                return Submitted(claim.record, await self._published(claim))
            case Follow():
                return Submitted(claim.record, await claim.outcome())
            case Settled():
                return Submitted(claim.record, claim.outcome)

    async def _published(self, lead: Lead) -> Outcome:
        try:
            return lead.settle(await self._log.publish(lead.record))
        finally:
            lead.leave()
