"""One command, start to end: validate, create the event, publish it."""

from command_side.event_log import EventLog, Position, PublishError, PublishUnknownError
from command_side.idempotency import KeyConflict, RecentKeys
from contracts.event import ActivityCommand
from contracts.record import EventRecord, new_record
from contracts.rules import Problems, validate_user_event

Accepted = tuple[EventRecord, Position | None]


class Commands:
    """Records activities in a log."""

    def __init__(self, log: EventLog, keys: RecentKeys) -> None:
        self._log = log
        self._keys = keys

    async def handle(self, body: bytes, request_id: str, key: bytes | None = None) -> Accepted | Problems | KeyConflict:
        """Records one activity. Returns the acknowledged record and its position if known, or why it was refused.

        With an idempotency key, every repeat is the same event. Raises PublishError when it was not acknowledged.
        """
        command = validate_user_event(body)
        if isinstance(command, Problems):
            return command
        if key is not None:
            return await self._once(key, command, request_id)
        record = new_record(command, request_id)
        return record, await self._log.publish(record)

    async def _once(self, key: bytes, command: ActivityCommand, request_id: str) -> Accepted | KeyConflict:
        known = self._keys.claim(key, command, request_id)
        if isinstance(known, KeyConflict):
            return known
        if not known.lead():
            outcome = await known.outcome()
            if isinstance(outcome, PublishError):
                raise outcome
            return known.record, outcome
        try:
            position = await self._log.publish(known.record)
        except PublishError as error:
            known.settle(error)
            raise
        except BaseException:  # cancelled: the record may be on its way
            known.settle(PublishUnknownError())
            raise
        known.settle(position)
        return known.record, position
