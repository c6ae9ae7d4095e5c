"""An event log that seals what it publishes (docs/decisions/0042).

Its publishers keep the plain record: what they answer are the original's bytes. A record of a user whose key is known
goes on at once; others wait together for one look into the key store. If that fails, they are certainly not recorded.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from command_side.publishing.event_log import (
    BUSY,
    FAILED,
    KEYS_AWAY,
    NOT_TAKEN,
    UNKNOWN,
    EventLog,
    Failed,
    KeysAway,
    NotAcknowledged,
    NotTaken,
    Outcome,
    PendingPublish,
)
from command_side.publishing.produce_round import COUNT_FAILURE
from contracts.record import EventRecord
from telemetry.health import DependencyState
from telemetry.logs import get_logger

LOOKS = 2  # into the key store for one batch: what was learned first may be forgotten when the last is learned


class Seals(Protocol):
    """What seals records."""

    def sealed(self, record: EventRecord) -> EventRecord | None:
        """The record, sealed; None: what seals it has to be learned first."""
        ...

    async def learn(self, records: Sequence[EventRecord]) -> bool:
        """Learns what seals these records. Returns False if the key store does not tell; raises what is our fault."""
        ...

    async def state(self) -> DependencyState:
        """Whether the key store can be used."""
        ...

    def running(self) -> AbstractAsyncContextManager[None]:
        """Has to be entered before anything is sealed."""
        ...


class PendingKey:
    """A record whose user's key is being learned. See `PendingPublish`. It is answered once, whatever raises."""

    __slots__ = ("_on_result", "_pending", "record")

    def __init__(self, record: EventRecord, on_result: Callable[[Outcome], None]) -> None:
        self.record = record
        self._on_result: Callable[[Outcome], None] | None = on_result  # None: called, or the publisher has left
        self._pending: PendingPublish | None = None

    def withdraw(self) -> None:
        """See `PendingPublish.withdraw`."""
        self._on_result = None
        if self._pending is not None:
            self._pending.withdraw()

    def end(self) -> None:
        """The record will not be given to the log any more, unless it was already."""
        if self._pending is None:
            self._fail(FAILED)

    def publish(
        self, seal: Callable[[EventRecord], EventRecord | None], log: EventLog, without_key: NotAcknowledged
    ) -> None:
        """Gives the sealed record to the log, unless nobody waits for it any more. `without_key`: the answer then."""
        if self._on_result is None:
            return
        try:
            sealed = seal(self.record)
        except Exception as error:  # noqa: BLE001 - the others wait, too
            self._raised(error, FAILED)
            return
        if sealed is None:
            self._fail(without_key)
            return
        try:
            pending = log.publish_nowait(sealed, self._answer)
        except Exception as error:  # noqa: BLE001 - the others wait, too
            self._raised(error, UNKNOWN)
            return
        if isinstance(pending, NOT_TAKEN):
            self._answer(pending)
        else:
            self._pending = pending

    def _raised(self, error: Exception, outcome: NotAcknowledged) -> None:
        get_logger("command_side").error("sealed_record_not_published", error=type(error).__name__)
        self._fail(outcome)

    def _fail(self, outcome: NotAcknowledged) -> None:
        if self._on_result is not None:
            COUNT_FAILURE[type(outcome)](1)
            self._answer(outcome)

    def _answer(self, outcome: Outcome) -> None:
        on_result, self._on_result = self._on_result, None
        if on_result is not None:
            on_result(outcome)


class SealedLog:
    """See `EventLog`: `log`, with every record sealed."""

    def __init__(self, log: EventLog, seals: Seals, max_waiting: int) -> None:
        """`max_waiting`: records that may wait for keys at the same time; more are refused."""
        self._log = log
        self._seals = seals
        self._sealed = seals.sealed
        self._max_waiting = max_waiting
        self._pending: list[PendingKey] = []
        self._learning: asyncio.Task[None] | None = None
        self.partition_count, self.connected = log.partition_count, log.connected

    def publish_nowait(self, record: EventRecord, on_result: Callable[[Outcome], None]) -> PendingPublish | NotTaken:
        """See `EventLog`."""
        sealed = self._sealed(record)
        if sealed is not None:
            return self._log.publish_nowait(sealed, on_result)
        if len(self._pending) >= self._max_waiting:
            COUNT_FAILURE[type(BUSY)](1)
            return BUSY
        pending = PendingKey(record, on_result)
        self._pending.append(pending)
        if self._learning is None or self._learning.done():
            self._learning = asyncio.create_task(self._learn_waiting(), name="learn-keys")
        return pending

    async def publish_all(self, records: Sequence[EventRecord]) -> list[Outcome] | NotTaken:
        """See `EventLog`. What cannot be sealed now fails, and the rest is published."""
        sealed = list(map(self._sealed, records))
        told = True
        without_key: KeysAway | Failed = KEYS_AWAY
        for _ in range(LOOKS):
            unknown = [record for record, one in zip(records, sealed, strict=True) if one is None]
            if not unknown or not told:
                break
            told, without_key = await self._learned(unknown)
            sealed = [one or self._sealed(record) for record, one in zip(records, sealed, strict=True)]
        ready = [one for one in sealed if one is not None]
        if len(ready) == len(records):
            return await self._log.publish_all(ready)
        COUNT_FAILURE[type(without_key)](len(records) - len(ready))
        outcomes = await self._log.publish_all(ready)
        coming = iter([outcomes] * len(ready) if isinstance(outcomes, NOT_TAKEN) else outcomes)
        return [without_key if one is None else next(coming) for one in sealed]

    async def _learn_waiting(self) -> None:
        """Learns the keys of those who wait, all at once, until nobody waits. Nothing awaits between key and log.

        A look that fails answers also those who came meanwhile: so nobody waits longer than one look lasts.
        """
        pending: list[PendingKey] = []
        try:
            while self._pending:
                pending, self._pending = self._pending, []
                told, without_key = await self._learned([one.record for one in pending])
                if not told:
                    pending += self._pending
                    self._pending = []
                for one in pending:
                    one.publish(self._sealed, self._log, without_key)
        finally:  # the process ends, perhaps
            for one in (*pending, *self._pending):
                one.end()
            self._pending = []

    async def _learned(self, records: Sequence[EventRecord]) -> tuple[bool, KeysAway | Failed]:
        """Whether the store told, and the answer for records without a key: a fault of ours is not the store's."""
        try:
            return await self._seals.learn(records), KEYS_AWAY
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing is written unsealed
            get_logger("command_side").error("keys_not_learned", error=type(error).__name__, events=len(records))
            return False, FAILED
