"""How records of the topic are written, beside what they say (KAFKA_WIRE_FORMAT, KAFKA_CLOUDEVENTS)."""

from typing import TypeVar

import msgspec

from contracts.record import TOPIC, EventRecord
from contracts.wire.cloud_events import cloud_event_headers

Record = TypeVar("Record", bound=EventRecord)


class WireFormat(msgspec.Struct, frozen=True):
    """`frame`: before the JSON; empty: nothing. `cloud_events`: whether headers say what a CloudEvent does."""

    topic: str = TOPIC
    frame: bytes = b""
    cloud_events: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether records are written as they are."""
        return not (self.frame or self.cloud_events)

    def written(self, record: Record) -> Record:
        """The record as the topic gets it. The value is its JSON until then."""
        headers = record.headers
        if self.cloud_events:
            headers = [*headers, *cloud_event_headers(record, framed=bool(self.frame), topic=self.topic)]
        return msgspec.structs.replace(record, value=self.frame + record.value, headers=headers)
