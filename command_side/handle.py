"""One command, start to end: validate, create the event, publish it."""

from command_side.event_log import EventLog, Position
from contracts.event import create_user_event
from contracts.record import EventRecord, to_record
from contracts.rules import Problems, validate_user_event


async def handle(body: bytes, request_id: str, log: EventLog) -> tuple[EventRecord, Position | None] | Problems:
    """Records one activity. Returns the acknowledged record and its position if known, or what is wrong with the body.

    Raises PublishError when the log did not acknowledge the event.
    """
    command = validate_user_event(body)
    if isinstance(command, Problems):
        return command
    record = to_record(create_user_event(command), request_id)
    return record, await log.publish(record)
