"""An erasure marker as the projector meets it."""

import msgspec

from contracts.erasure import HEADER_ACTOR, UserErasure
from contracts.record import HEADER_REQUEST_ID, key_of
from contracts.sealed.events import stub_name
from projector.writing.rows import KafkaRecord


class Marker(msgspec.Struct, frozen=True):
    """An erasure, and where its marker stands in the log. `actor`: who asked; empty: the audit log tells already.

    `pseudonym`: of the sealed log, the user's, where a key or the register told it.
    """

    erasure: UserErasure
    topic: str
    partition: int
    offset: int
    actor: str = ""
    request_id: str = ""
    subject_ids: tuple[str, ...] = ()  # of the sealed log
    pseudonym: bytes | None = None

    @property
    def user(self) -> tuple[str, str]:
        """The tenant and the user."""
        return self.erasure.tenant_id, self.erasure.user_id

    @property
    def key(self) -> bytes:
        """The key of the user's records."""
        return key_of(*self.user)

    @property
    def stubs(self) -> list[str]:
        """What the user's stubs in the sealed log are called: by the pseudonym, or by subject where none is known."""
        told = [*self.subject_ids, *([] if self.pseudonym is None else [self.pseudonym.hex()])]
        return [stub_name(each) for each in told]


def marker_of(
    erasure: UserErasure, record: KafkaRecord, subject_ids: tuple[str, ...] = (), pseudonym: bytes | None = None
) -> Marker:
    """The marker that a record is. Its headers may be anything: texts of PostgreSQL cannot hold U+0000."""
    headers = {name: (value or b"").decode(errors="replace").replace("\0", "") for name, value in record.headers}
    actor, request_id = headers.get(HEADER_ACTOR, ""), headers.get(HEADER_REQUEST_ID, "")
    return Marker(erasure, record.topic, record.partition, record.offset, actor, request_id, subject_ids, pseudonym)
