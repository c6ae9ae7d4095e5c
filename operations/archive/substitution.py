"""Whether a record of a rewritten archive can stand for one of the topic, where both are there. Pure.

How the stubs were named is forgotten by then, so it compares what a stub keeps: tenant, type, hour and product.
"""

from contracts.erasure import erasure_of, sealed_erasure_of
from contracts.event import UserEvent
from contracts.record import from_value
from operations.rewrite.substitutes import HOUR_MS, SourceRecord


def stands_for(archived: SourceRecord, record: SourceRecord) -> bool:
    """Returns whether the archived record keeps of the record what a rewrite keeps, and nothing else."""
    if archived.value == record.value:  # only its key named somebody who is erased
        return archived.timestamp == record.timestamp
    if archived.timestamp != record.timestamp - record.timestamp % HOUR_MS:
        return False
    stub, event = from_value(archived.value), from_value(record.value)
    if isinstance(event, UserEvent):
        return isinstance(stub, UserEvent) and _keeps(stub, event)
    is_marker = erasure_of(record.value) is not None or sealed_erasure_of(record.value) is not None
    return (erasure_of(archived.value) is not None) is is_marker and not isinstance(stub, UserEvent)


def _keeps(stub: UserEvent, event: UserEvent) -> bool:
    same = (stub.tenant_id, stub.event_type) == (event.tenant_id, event.event_type)
    of_hour = stub.timestamp == event.timestamp.replace(minute=0, second=0, microsecond=0)
    return same and of_hour and stub.payload.items() <= event.payload.items()
