"""Records of the sealed log as a sink meets them: without what is sealed (docs/sinks.md).

A sink has no key store. Whoever reads it sees who acted as a random subject, the type, the time and the product; an
erasure of a sealed log needs nothing of a sink.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from contracts.erasure import START_SEALED, sealed_erasure_of
from contracts.sealed.events import decoded_v3, is_sealed, stub_value
from contracts.wire.frames import MAGIC, unframed
from projector.sealed.opener import PartKey, Unsealed
from projector.sealed.records import MALFORMED, OpenedErasure, opened_record
from projector.writing.rows import SEALED, KafkaRecord
from read_model.connecting.pool import Connection

_STARTS = (SEALED, MAGIC)


def subject_name(subject_id: str) -> str:
    """Returns the user id of a subject's events in a sink: who it is, nobody can tell without the key."""
    return f"subject-{subject_id}"


class Stubs(Unsealed):
    """Makes a stub of every sealed event. It stands where a projector has an `Opener`."""

    def __init__(self, products: Mapping[str, str]) -> None:
        """`products`: the payload field that names the product, by type."""
        self._products = products

    async def opened_part(
        self, part: Mapping[PartKey, Sequence[KafkaRecord]], _pool: Any
    ) -> Mapping[PartKey, Sequence[KafkaRecord]]:
        """Returns the part with a stub for every sealed event."""
        return {place: self._stubs(records) for place, records in part.items()}

    async def opened_records(
        self, records: Sequence[KafkaRecord], _connection: Connection | None = None
    ) -> list[KafkaRecord]:
        """As `opened_part`."""
        return list(self._stubs(records))

    def _stubs(self, records: Sequence[KafkaRecord]) -> Sequence[KafkaRecord]:
        if not any(record.value is not None and record.value.startswith(_STARTS) for record in records):
            return records
        return [self._stub(record) for record in records]

    def _stub(self, record: KafkaRecord) -> KafkaRecord:
        value = unframed(record.value) if record.value else b""
        if is_sealed(value):
            event = decoded_v3(value)
            if event is None:
                return opened_record(record, b"", MALFORMED)
            name = subject_name(str(event.subject_id))
            return opened_record(record, stub_value(event, self._products.get(event.event_type), name))
        if not value.startswith(START_SEALED):
            return record
        found = sealed_erasure_of(value)
        if found is None:
            return opened_record(record, b"", MALFORMED)
        return opened_record(record, b"", erasure=OpenedErasure(found[0], None, None))
