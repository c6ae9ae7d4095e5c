"""A sealed marker as the projector applies it: as that of a user, or of stubs when nobody knows the user any more."""

from collections.abc import Collection, Sequence
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contracts.erasure import SealedErasure, UserErasure, sealed_erasure_of
from contracts.sealed.events import stub_name
from projector.privacy.marker import Marker, marker_of
from projector.sealed.records import OpenedErasure
from projector.writing.rows import KafkaRecord
from sealing.cipher import erasure_key, opened
from sealing.store import Destroyed, KeyStore, Subject
from telemetry.logs import get_logger

UNREADABLE = (
    "The key store was restored from before this erasure was asked for, or the read model is new and the erasure is"
    " done. If you know who asked at that time, ask again: footfall privacy erase."
)

FoundMarker = tuple[SealedErasure, bytes]  # and what it says in the clear


def sealed_markers(records: Sequence[KafkaRecord]) -> list[FoundMarker]:
    """The markers among records, each with what it says in the clear."""
    return [marker for record in records if (marker := sealed_erasure_of(record.value)) is not None]


async def named_users(store: KeyStore, markers: Sequence[FoundMarker], registered: Collection[UUID]) -> dict[UUID, str]:
    """The users whom markers name, by the erasure's id: as far as its key is left, or that of a subject.

    The store lacks an erasure's key when it is done; or when it was restored from before the request. Then a subject's
    key is there, too, if any of the user's events can be read.

    Args:
        store: The key store.
        markers: One for each erasure.
        registered: The erasures that some generation has applied.
    """
    keys = await store.erasure_keys(str(erasure.erasure_id) for erasure, _ in markers)
    lost = [erasure for erasure, _ in markers if str(erasure.erasure_id) not in keys]
    subjects = await store.keys_of(str(each) for erasure in lost for each in erasure.subject_ids) if lost else {}
    found: dict[UUID, str] = {}
    for erasure, clear in markers:
        of_subjects = [subjects.get(str(each)) for each in erasure.subject_ids]
        tried = [keys[str(erasure.erasure_id)]] if str(erasure.erasure_id) in keys else []
        tried += [erasure_key(one.key, erasure.erasure_id) for one in of_subjects if isinstance(one, Subject)]
        users = (opened(AESGCM(key), erasure.sealed, clear) for key in tried)
        user = next((user for user in users if user is not None), None)
        if user is not None:
            found[erasure.erasure_id] = user.decode()
        elif erasure.erasure_id not in registered and not any(isinstance(one, Destroyed) for one in of_subjects):
            get_logger("projector").error("erasure_unreadable", erasure_id=str(erasure.erasure_id), remedy=UNREADABLE)
    return found


def sealed_marker(found: OpenedErasure, record: KafkaRecord) -> Marker:
    """The marker. Without the user, it is one of a stub: of the first subject, or of the erasure if there is none."""
    erasure = found.erasure
    subjects = tuple(str(each) for each in erasure.subject_ids)
    user_id = found.user_id or stub_name(subjects[0] if subjects else str(erasure.erasure_id))
    of_user = UserErasure("2.1", "erasure", erasure.erasure_id, erasure.tenant_id, user_id, erasure.requested_at)
    return marker_of(of_user, record, subjects, found.pseudonym)
