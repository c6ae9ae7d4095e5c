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
    """Events and bytes of one tenant in one day: all of them, or those of its public keys."""

    __slots__ = ("bytes", "events")

    def __init__(self) -> None:
        self.events = 0
        self.bytes = 0

    def add(self, record: EventRecord) -> None:
        """One more."""
        self.events += 1
        self.bytes += len(record.value)


class DayOfTenants:
    """What each tenant stored since midnight (UTC), as far as this process knows, and what of it by public keys."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """`clock`: Unix time, seconds."""
        self._clock = clock
        self._day = 0
        self._stored: dict[tuple[str, bool], Stored] = {}

    def of(self, tenant_id: str, *, public: bool = False) -> Stored:
        """What the tenant stored today. `public`: only what its public keys recorded."""
        day = int(self._clock()) // DAY
        if day not in (self._day, self._day - 1):  # a clock that is set back over midnight begins no day anew
            self._day, self._stored = day, {}
        found = self._stored.get((tenant_id, public))
        return self._stored.setdefault((tenant_id, public), Stored()) if found is None else found

    def left(self) -> int:
        """Seconds until the next day."""
        return DAY - int(self._clock()) % DAY

    def count(self, record: EventRecord, *, public: bool = False) -> None:
        """One record that was stored. `public`: by a public key."""
        tenant_id = tenant_of_key(record.key)
        self.of(tenant_id).add(record)
        if public:
            self.of(tenant_id, public=True).add(record)


class CountedLog:
    """See `EventLog`: `log`, and `day` counts what it acknowledges."""

    def __init__(self, log: EventLog, day: DayOfTenants, *, public: bool = False) -> None:
        """`public`: what comes here was recorded by public keys."""
        self._log = log
        self._count = partial(day.count, public=public)
        self.partition_count, self.connected = log.partition_count, log.connected

    def publish_nowait(self, record: EventRecord, on_result: Callable[[Outcome], None]) -> PendingPublish | NotTaken:
        """See `EventLog`."""
        return self._log.publish_nowait(record, partial(self._counted, record, on_result))

    def _counted(self, record: EventRecord, on_result: Callable[[Outcome], None], outcome: Outcome) -> None:
        if isinstance(outcome, ACKNOWLEDGED):
            self._count(record)
        on_result(outcome)

    async def publish_all(self, records: Sequence[EventRecord]) -> list[Outcome] | NotTaken:
        """See `EventLog`."""
        outcomes = await self._log.publish_all(records)
        if not isinstance(outcomes, NOT_TAKEN):
            for record, outcome in zip(records, outcomes, strict=True):
                if isinstance(outcome, ACKNOWLEDGED):
                    self._count(record)
        return outcomes
