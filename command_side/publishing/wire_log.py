"""An event log that writes records as the topic's other readers want them (docs/decisions/0050).

Its publishers keep the record with its JSON: what they answer is the original's bytes.
"""

from collections.abc import Callable, Sequence

from command_side.publishing.event_log import EventLog, NotTaken, Outcome, PendingPublish
from contracts.record import EventRecord
from contracts.wire.format import WireFormat


class WireLog:
    """See `EventLog`: `log`, with every record in a wire format."""

    def __init__(self, log: EventLog, wire: Callable[[], WireFormat]) -> None:
        """`wire`: says the format of what is published now."""
        self._log = log
        self._wire = wire
        self.partition_count, self.connected = log.partition_count, log.connected

    def publish_nowait(self, record: EventRecord, on_result: Callable[[Outcome], None]) -> PendingPublish | NotTaken:
        """See `EventLog`."""
        return self._log.publish_nowait(self._wire().written(record), on_result)

    async def publish_all(self, records: Sequence[EventRecord]) -> list[Outcome] | NotTaken:
        """See `EventLog`."""
        return await self._log.publish_all(list(map(self._wire().written, records)))
