"""CloudEvents 1.0 in binary mode: attributes as headers, the value as it is (KAFKA_CLOUDEVENTS, docs/decisions/0050).

There is no `ce_subject`: headers are what brokers, proxies and traces show first, and who acted is a person.
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from collections.abc import Sequence
from functools import lru_cache

from contracts.record import TOPIC, EventRecord, tenant_of_key

Header = tuple[str, bytes]

SPECVERSION, ID, SOURCE, TYPE, TIME = "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time"
CONTENT_TYPE = "content-type"
JSON, FRAMED_JSON = b"application/json", b"application/octet-stream"  # a frame before JSON is no JSON

_VERSION: Header = (SPECVERSION, b"1.0")
_TIME, _ASKED = b',"timestamp":"', b',"requestedAt":"'  # within a JSON string the quotation marks would be escaped


def cloud_event_headers(record: EventRecord, *, framed: bool, topic: str = TOPIC) -> list[Header]:
    """The attributes of a record that was made here: an event, or the marker of an erasure.

    Args:
        record: With the JSON as it is for its value.
        framed: Whether the JSON will be framed.
        topic: Of the record. With the tenant it is the source, within which ids are unique.
    """
    (_, kind), (_, event_id) = record.headers[:2]  # the event's type, or `erasure`: no type is in small letters
    source = _source(topic, tenant_of_key(record.key))
    return _headers(event_id, source, kind, time_of(record.value), FRAMED_JSON if framed else JSON)


def renamed_headers(original: Sequence[Header], event_id: bytes, kind: bytes, value: bytes) -> list[Header]:
    """The attributes of what stands in the place of another record; none if that had none."""
    told = dict(original)
    if SPECVERSION not in told:
        return []
    return _headers(event_id, told.get(SOURCE, b""), kind, time_of(value), told.get(CONTENT_TYPE, JSON))


def time_of(value: bytes) -> bytes:
    """When it happened, as the JSON has it. Raises ValueError if it is not written here."""
    mark = _TIME if _TIME in value else _ASKED
    start = value.index(mark) + len(mark)
    return value[start : value.index(b'"', start)]


@lru_cache(maxsize=1024)
def _source(topic: str, tenant_id: str) -> bytes:
    return f"urn:footfall:{topic}:{tenant_id}".encode()


def _headers(event_id: bytes, source: bytes, kind: bytes, time: bytes, content_type: bytes) -> list[Header]:
    attributes = [(ID, event_id), (SOURCE, source), (TYPE, kind), (TIME, time)]
    return [_VERSION, *attributes, (CONTENT_TYPE, content_type)]
