"""A sealed marker as the projector applies it: as that of a user, or of stubs when nobody knows the user any more."""

from collections.abc import Sequence

from contracts.erasure import SealedErasure, UserErasure, sealed_erasure_of
from contracts.sealed.events import stub_name
from projector.privacy.marker import Marker, marker_of
from projector.sealed.records import OpenedErasure
from projector.writing.rows import KafkaRecord


def sealed_markers(records: Sequence[KafkaRecord]) -> list[tuple[SealedErasure, bytes]]:
    """The markers among records, each with what it says in the clear."""
    return [marker for record in records if (marker := sealed_erasure_of(record.value)) is not None]


def sealed_marker(found: OpenedErasure, record: KafkaRecord) -> Marker:
    """The marker. Without the user, it is one of a stub: of the first subject, or of the erasure if there is none."""
    erasure = found.erasure
    subjects = tuple(str(each) for each in erasure.subject_ids)
    user_id = found.user_id or stub_name(subjects[0] if subjects else str(erasure.erasure_id))
    of_user = UserErasure("2.1", "erasure", erasure.erasure_id, erasure.tenant_id, user_id, erasure.requested_at)
    return marker_of(of_user, record, subjects, found.pseudonym)
