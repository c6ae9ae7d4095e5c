"""One record published by a coroutine, where production code is called back."""

import asyncio

from command_side.publishing.event_log import NOT_TAKEN, EventLog, Outcome
from contracts.record import EventRecord


async def publish(log: EventLog, record: EventRecord) -> Outcome:
    """Returns what became of the record. Whoever is cancelled here withdraws it."""
    known: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def on_result(outcome: Outcome) -> None:
        if not known.done():
            known.set_result(outcome)

    pending = log.publish_nowait(record, on_result)
    if isinstance(pending, NOT_TAKEN):
        return pending
    try:
        return await known
    finally:
        pending.withdraw()
