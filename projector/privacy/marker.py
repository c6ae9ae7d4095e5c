"""An erasure marker as the projector meets it."""

import msgspec

from contracts.erasure import HEADER_ACTOR, UserErasure
from contracts.record import HEADER_REQUEST_ID, key_of
from projector.writing.rows import KafkaRecord


class Marker(msgspec.Struct, frozen=True):
    """An erasure, and where its marker stands in the log. `actor`: who asked; empty: the audit log tells already."""

    erasure: UserErasure
    topic: str
    partition: int
    offset: int
    actor: str = ""
    request_id: str = ""
    subject_ids: tuple[str, ...] = ()  # of the sealed log

    @property
    def user(self) -> tuple[str, str]:
        """The tenant and the user."""
        return self.erasure.tenant_id, self.erasure.user_id

    @property
    def key(self) -> bytes:
        """The key of the user's records."""
        return key_of(*self.user)


def marker_of(erasure: UserErasure, record: KafkaRecord, subject_ids: tuple[str, ...] = ()) -> Marker:
    """The marker that a record is. Its headers may be anything: texts of PostgreSQL cannot hold U+0000."""
    headers = {name: (value or b"").decode(errors="replace").replace("\0", "") for name, value in record.headers}
    actor, request_id = headers.get(HEADER_ACTOR, ""), headers.get(HEADER_REQUEST_ID, "")
    return Marker(erasure, record.topic, record.partition, record.offset, actor, request_id, subject_ids)
