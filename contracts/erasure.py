"""The erasure marker: a record of its own kind in the topic of the events (docs/privacy.md).

It says that everything which the log holds of one user before it, in its partition, is to be forgotten. It stands in
every partition, because producers of their own may have put events of the user anywhere; so its order against each of
the user's events is definite. Consumers know it by the header `record-kind`; events have none.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal, NamedTuple
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from contracts.event import EventId, TenantId, Timestamp, UserId, is_tenant_id
from contracts.record import HEADER_EVENT_ID, HEADER_REQUEST_ID, PlacedRecord, key_of
from contracts.validation.rules import is_user_id
from contracts.wire.frames import MAGIC, unframed

HEADER_RECORD_KIND = "record-kind"  # only on records that are no events
HEADER_ACTOR = "actor"  # who asked, if the audit log is to tell: a projector writes that as it applies the marker
ERASURE: Literal["erasure"] = "erasure"

MAX_ACTOR_LENGTH = 256  # characters; the audit log keeps no more

# A version newer than any event's: releases that know no markers park it, and with it the later events of its key.
_START = b'{"version":"2.1","recordKind":"erasure",'


class UserErasure(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Forget the events of this user that stand before this record in its partition."""

    version: Literal["2.1"]
    record_kind: Literal["erasure"]
    erasure_id: EventId
    tenant_id: TenantId
    user_id: UserId
    requested_at: Timestamp


# Newer than any event's, too: releases that know no sealed log park it.
START_SEALED = b'{"version":"3.1","recordKind":"erasure",'
_SEALED = b',"sealed":"'
_STARTS, _STARTS_SEALED = (_START, MAGIC), (START_SEALED, MAGIC)  # one look for the usual record, which is no marker


class SealedErasure(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """As `UserErasure`, in the sealed log: it names the user's subjects.

    `sealed` is the user's id, by a key of the erasure that is destroyed when no row of the user is left. The associated
    data are the bytes before `,"sealed":`.
    """

    version: Literal["3.1"]
    record_kind: Literal["erasure"]
    erasure_id: EventId
    tenant_id: TenantId
    requested_at: Timestamp
    subject_ids: list[Annotated[UUID, msgspec.Meta(description="Whom the user's events are about.")]]
    sealed: Annotated[bytes, msgspec.Meta(description="The user's id, as `sealed` of an event, by the erasure's key.")]


_decode = msgspec.json.Decoder(UserErasure).decode
_decode_sealed = msgspec.json.Decoder(SealedErasure).decode
_encode = msgspec.json.Encoder().encode


class Fenced(NamedTuple):
    """A user's subjects, for which nobody seals any more, and what seals the user's id in the marker."""

    subject_ids: Sequence[str]
    seal: Callable[[bytes, bytes], bytes]  # of the secret and the associated data


def new_erasure(tenant_id: str, user_id: str) -> UserErasure:
    """An erasure that is asked for now. Raises ValueError for what no user can have: it would be no marker."""
    if not (is_tenant_id(tenant_id) and is_user_id(user_id)):
        raise ValueError("no user can have this tenant or id")
    erasure_id = UUID(int=uuid7().int)
    return UserErasure("2.1", ERASURE, erasure_id, tenant_id, user_id, datetime.now(UTC))


def encode_erasure(erasure: UserErasure) -> bytes:
    """The marker's JSON, UTF-8."""
    return _encode(erasure)


def erasure_records(erasure: UserErasure, request_id: str, partitions: int, actor: str = "") -> list[PlacedRecord]:
    """The marker for each partition, ready for Kafka. `actor`: who asked; empty: whoever asks writes the audit log."""
    key, value = key_of(erasure.tenant_id, erasure.user_id), encode_erasure(erasure)
    return _in_each(partitions, key, value, _headers(erasure.erasure_id, request_id, actor))


def sealed_erasure_records(
    erasure: UserErasure, fenced: Fenced, request_id: str, partitions: int, actor: str = ""
) -> list[PlacedRecord]:
    """As `erasure_records`, for the sealed log."""
    subjects = [UUID(each) for each in fenced.subject_ids]
    sealed = SealedErasure("3.1", ERASURE, erasure.erasure_id, erasure.tenant_id, erasure.requested_at, subjects, b"")
    clear = _encode(sealed).removesuffix(b',"sealed":""}')
    value = _encode(msgspec.structs.replace(sealed, sealed=fenced.seal(erasure.user_id.encode(), clear)))
    key = key_of(erasure.tenant_id, str(erasure.erasure_id))
    return _in_each(partitions, key, value, _headers(erasure.erasure_id, request_id, actor))


def _headers(erasure_id: UUID, request_id: str, actor: str) -> list[tuple[str, bytes]]:
    headers = [
        (HEADER_RECORD_KIND, ERASURE.encode()),
        (HEADER_EVENT_ID, str(erasure_id).encode()),
        (HEADER_REQUEST_ID, request_id.encode()),
    ]
    if actor:
        headers.append((HEADER_ACTOR, actor[:MAX_ACTOR_LENGTH].encode(errors="replace")))
    return headers


def _in_each(partitions: int, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> list[PlacedRecord]:
    return [PlacedRecord(key, value, headers, partition) for partition in range(partitions)]


def what_remains(log: str) -> list[str]:
    """A sentence for each place that keeps bytes of a user after the erasure. `log`: what to call the log."""
    return [
        f"{log} keeps the bytes of the events, and of the request, until the topic is rewritten.",
        "Archives of the log keep the bytes of the events until footfall archive rewrite, or until they are deleted.",
        "Dead letters that were published to their topic stay there.",
        "A dead letter that has no key, and a value that is no JSON, cannot be found by its user.",
        "PostgreSQL's statistics (pg_stats) may quote values of deleted rows until the next ANALYZE.",
        "PostgreSQL's files keep deleted rows until the space is used again; VACUUM FULL ends that, or a rebuild.",
        "PostgreSQL's write-ahead log, replicas that lag, and backups keep them until they expire.",
        "Exports that were handed out, and consumers of the topic, have what they took.",
    ]


def what_remains_sealed() -> list[str]:
    """As `what_remains`, of a log that was sealed before the user's first event."""
    return [
        "The user's keys are destroyed once every generation has passed the markers; then nobody can read the log.",
        "Events of the user that were written before the log was sealed stay readable in it until it is rewritten.",
        "Backups of the key store keep wrapped keys until they expire.",
        "Archives keep readable what was written before the log was sealed, until footfall archive rewrite.",
        *what_remains("")[4:],
    ]


def erasure_of(value: bytes | None) -> UserErasure | None:
    """The marker that a record's value is, framed or not; None for any other record."""
    if value is None or not value.startswith(_STARTS) or not (value := unframed(value)).startswith(_START):
        return None
    try:
        return _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def sealed_erasure_of(value: bytes | None) -> tuple[SealedErasure, bytes] | None:
    """The sealed marker that a record's value is, framed or not, with its associated data; None for any other."""
    if value is None or not value.startswith(_STARTS_SEALED) or not (value := unframed(value)).startswith(START_SEALED):
        return None
    try:
        return _decode_sealed(value), value[: value.rindex(_SEALED)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return None
