"""An event log that counts what it stored, by tenant and day."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from command_side.publishing.event_log import (
    ACKNOWLEDGED,
    NOT_TAKEN,
    EventLog,
    NotTaken,
    Outcome,
    PendingPublish,
)
from contracts.record import EventRecord, tenant_of_key

DAY = 86_400  # seconds; of UTC


class Stored:
    """Events and bytes of one tenant in one day."""

    __slots__ = ("bytes", "events")

    def __init__(self) -> None:
        self.events = 0
        self.bytes = 0


class DayOfTenants:
    """What each tenant stored since midnight (UTC), as far as this process knows."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """`clock`: Unix time, seconds."""
        self._clock = clock
        self._day = 0
        self._stored: dict[str, Stored] = {}

    def of(self, tenant_id: str) -> Stored:
        """What the tenant stored today."""
        day = int(self._clock()) // DAY
        if day != self._day:
            self._day, self._stored = day, {}
        return self._stored.setdefault(tenant_id, Stored())

    def left(self) -> int:
        """Seconds until the next day."""
        return DAY - int(self._clock()) % DAY

    def count(self, record: EventRecord) -> None:
        """One record that was stored."""
        stored = self.of(tenant_of_key(record.key))
        stored.events += 1
        stored.bytes += len(record.value)


class CountedLog:
    """See `EventLog`: `log`, and `day` counts what it acknowledges."""

    def __init__(self, log: EventLog, day: DayOfTenants) -> None:
        self._log = log
        self._day = day
        self.partition_count, self.connected = log.partition_count, log.connected

    def publish_nowait(self, record: EventRecord, on_result: Callable[[Outcome], None]) -> PendingPublish | NotTaken:
        """See `EventLog`."""
        return self._log.publish_nowait(record, partial(self._counted, record, on_result))

    def _counted(self, record: EventRecord, on_result: Callable[[Outcome], None], outcome: Outcome) -> None:
        if isinstance(outcome, ACKNOWLEDGED):
            self._day.count(record)
        on_result(outcome)

    async def publish_all(self, records: Sequence[EventRecord]) -> list[Outcome] | NotTaken:
        """See `EventLog`."""
        outcomes = await self._log.publish_all(records)
        if not isinstance(outcomes, NOT_TAKEN):
            for record, outcome in zip(records, outcomes, strict=True):
                if isinstance(outcome, ACKNOWLEDGED):
                    self._day.count(record)
        return outcomes
