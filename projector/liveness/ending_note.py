"""Notes in the database that the watchdog ended this projector: a new process knows nothing of the old one."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from projector.facts.database import ENDED_BY_WATCHDOG
from projector.writing.failure import DATABASE_ERRORS
from read_model.connecting.database_url import Url
from read_model.connecting.pool import connect
from read_model.generations.register import write_journal

PATIENCE = 2.0  # seconds; the end does not wait for longer


def ending_note(database_url: Url, owner: str) -> Callable[[str], None]:
    """Returns what writes the note, in a thread and an event loop of its own: the process's loop may be blocked."""

    async def write(reason: str) -> None:
        async with asyncio.timeout(PATIENCE):
            connection = await connect(database_url, "footfall-watchdog", query_timeout=PATIENCE)
            try:
                await write_journal(connection, owner, ENDED_BY_WATCHDOG, {"reason": reason})
            finally:
                connection.terminate()

    def note(reason: str) -> None:
        with suppress(*DATABASE_ERRORS):
            asyncio.run(write(reason))

    return note
