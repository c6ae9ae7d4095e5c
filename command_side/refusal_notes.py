"""Tells the audit log how many sign-ins the command side refused, and which erasures were asked for and not done.

It has no database, so it sends a note by Kafka. Never one for each request: nobody can fill the log by being refused.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.errors import KafkaError

from brokers.audit_notes import send_notes
from contracts.audit_records import AuditNote, new_entry_id
from telemetry.connections import ended_within
from telemetry.logs import get_logger
from telemetry.refusals import RefusalTally
from telemetry.undone import Sum, Undone, UndoneDeeds

MINUTE = 60.0  # seconds of one sum
LAST_NOTE_TIMEOUT = 2.0  # seconds that a process takes longer to end if Kafka is away


class RefusalNotes:
    """Sends the sums of each minute; what cannot be sent is part of the next one.

    Args:
        options: Of every Kafka client.
        topic: The audit topic.
        tally: What this process has refused.
        undone: What was asked of it and not done.
    """

    def __init__(
        self, options: Mapping[str, Any], topic: str, tally: RefusalTally, undone: UndoneDeeds | None = None
    ) -> None:
        self._options, self._topic, self._tally = options, topic, tally
        self._undone = undone or UndoneDeeds()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sends during the body, and what is left after it."""
        task = asyncio.create_task(self._send_each_minute())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            await ended_within(LAST_NOTE_TIMEOUT, self.send)

    async def send(self) -> None:
        """Sends what was refused since the last time."""
        with self._tally.taking() as refusals, self._undone.taking() as undone:
            notes = [note_of(*found) for found in refusals.items()] + [note_of_deed(*found) for found in undone.items()]
            if notes:
                await send_notes(self._options, self._topic, *notes)
                refusals.clear()
                undone.clear()

    async def _send_each_minute(self) -> None:
        while True:
            await asyncio.sleep(MINUTE)
            try:
                await self.send()
            except (KafkaError, OSError, TimeoutError) as error:
                get_logger("command-side").warning("refusals_not_audited", error=type(error).__name__)


def note_of(reason: str, count: int) -> AuditNote:
    """The note that sums up the refusals of one reason."""
    return AuditNote(new_entry_id(), "command side", "sign-ins refused", "refused", target=f"{reason}: {count}")


def note_of_deed(deed: Undone, found: Sum) -> AuditNote:
    """The note that sums up what somebody asked for in vain."""
    target = f"{deed.why}: {found.times}"
    return AuditNote(new_entry_id(), deed.actor, deed.action, deed.outcome, deed.tenant_id, target, found.request_id)
