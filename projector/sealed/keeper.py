"""Destroys the keys of erased users when no row of them is left, and again if an old backup brings the keys back.

The projector that holds partition 0 of the active generation does it. Two at once do no harm.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import starmap
from typing import Any
from uuid import UUID

from read_model.connecting.pool import Connection
from read_model.generations.register import list_generations
from sealing.store import KeyStore, Pending
from telemetry.background import running_beside
from telemetry.logs import get_logger

LOOK_INTERVAL = 2.0  # seconds
COMPARE_INTERVAL = 10.0  # seconds between two comparisons of all keys with all destroyed subjects
STEP_TIMEOUT = 15.0  # seconds
AT_THE_LATEST = 3_600.0  # seconds after a request: then its keys go, though a generation has not passed the markers
AT_ONCE = 10_000  # subjects in one statement

# Of erasures, those whose markers some generation has applied, and in which topic.
MARKED = "SELECT DISTINCT erasure_id, topic FROM ops.erasures WHERE erasure_id = ANY ($1::uuid[])"
BEHIND = """
SELECT asked.erasure_id FROM unnest($1::uuid[]) AS asked(erasure_id) WHERE EXISTS (
    SELECT FROM {generation}.checkpoints AS here LEFT JOIN ops.erasures AS marker
        ON marker.topic = here.topic AND marker.partition = here.partition AND marker.erasure_id = asked.erasure_id
    WHERE here.topic = $2 AND (marker.kafka_offset IS NULL OR here.next_offset <= marker.kafka_offset)
)
"""
# Marked, not destroyed, and perhaps no longer pending: a key store that was restored forgot that it was asked.
NOT_DESTROYED = """
SELECT erasure_id, array_agg(DISTINCT erased.subject_id) AS subject_ids,
       min(marker.applied_at) < now() - make_interval(secs => $1) AS is_old
FROM ops.erased_subjects AS erased JOIN ops.erasures AS marker USING (erasure_id)
WHERE erased.destroyed_at IS NULL GROUP BY erasure_id
"""
NOTE_DESTROYED = """
UPDATE ops.erased_subjects SET destroyed_at = now() WHERE subject_id = ANY ($1::uuid[]) AND destroyed_at IS NULL
"""
HOW_MANY = "SELECT count(DISTINCT subject_id) FROM ops.erased_subjects WHERE destroyed_at IS NOT NULL"
DESTROYED = "SELECT DISTINCT subject_id FROM ops.erased_subjects WHERE destroyed_at IS NOT NULL"


class SealedKeeper:
    """Keeps the key store true to the register while `is_mine()` says that this projector is the one to do it."""

    def __init__(self, store: KeyStore, pool: Any, is_mine: Callable[[], bool]) -> None:
        self._store = store
        self._pool = pool
        self._is_mine = is_mine
        self._log = get_logger("projector")
        self._compared_at = float("-inf")

    @contextlib.asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Keeps it during the body."""
        async with running_beside(self._keep, "erased-keys"):
            yield

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            try:
                if self._is_mine():
                    async with asyncio.timeout(STEP_TIMEOUT), self._pool.acquire(timeout=STEP_TIMEOUT) as connection:
                        await keep_once(self._store, connection)
                        await self._compare()
            except Exception as error:  # noqa: BLE001 - it must never disturb projecting, and is tried again
                self._log.warning("erased_keys_not_kept", error=type(error).__name__)

    async def _compare(self) -> None:
        """Destroys again the keys that came after the store knew of their end: a restore is not one transaction."""
        if time.monotonic() - self._compared_at >= COMPARE_INTERVAL:
            await _destroy_in_parts(self._store, await self._store.brought_back())
            self._compared_at = time.monotonic()


async def keep_once(store: KeyStore, connection: Connection) -> None:
    """Destroys what is due. Raises KeysError and asyncpg's errors."""
    await _destroy_again(store, connection)
    registered = list(starmap(Pending, await connection.fetch(NOT_DESTROYED, AT_THE_LATEST)))
    if registered:
        await store.retire_again([subject_id for each in registered for subject_id in each.subject_ids])
    pending = {each.erasure_id: each for each in (*registered, *await store.pending(AT_THE_LATEST))}
    due = await _due(connection, list(pending.values()))
    if due:
        subject_ids = [subject_id for one in due for subject_id in one.subject_ids]
        await _destroy(store, connection, subject_ids, [one.erasure_id for one in due])


async def _destroy_again(store: KeyStore, connection: Connection) -> None:
    """If the key store knows of fewer destroyed subjects than the register, it was restored: the register wins."""
    if await connection.fetchval(HOW_MANY) > await store.destroyed():
        await _destroy_in_parts(store, [row["subject_id"] for row in await connection.fetch(DESTROYED)])


async def _destroy_in_parts(store: KeyStore, subject_ids: list[UUID]) -> None:
    for start in range(0, len(subject_ids), AT_ONCE):
        await store.destroy(subject_ids[start : start + AT_ONCE])
    if subject_ids:
        get_logger("projector").warning("destroyed_keys_again", subjects=len(subject_ids))


async def _destroy(store: KeyStore, connection: Connection, subject_ids: list[UUID], erasure_ids: list[UUID]) -> None:
    """The register first: if this ends between the two, the keys are destroyed again."""
    await connection.execute(NOTE_DESTROYED, subject_ids)
    await store.destroy(subject_ids, erasure_ids)


async def _due(connection: Connection, pending: Sequence[Pending]) -> list[Pending]:
    """Those whose markers every generation has passed; or some generation one of them, and the request is old.

    However many are pending, it is a few statements: one that waits for long never keeps the others waiting.
    """
    if not pending:
        return []
    marked = await connection.fetch(MARKED, [one.erasure_id for one in pending])
    behind: set[UUID] = set()
    for generation in await list_generations(connection):
        if generation.state != "dropping":
            for topic in {row["topic"] for row in marked}:
                wanted = [row["erasure_id"] for row in marked if row["topic"] == topic]
                rows = await connection.fetch(BEHIND.format(generation=generation.name), wanted, topic)
                behind.update(row["erasure_id"] for row in rows)
    known = {row["erasure_id"] for row in marked}
    return [one for one in pending if one.erasure_id in known and (one.is_old or one.erasure_id not in behind)]
