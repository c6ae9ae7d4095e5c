"""The erasure marker: a record of its own kind in the topic of the events (docs/privacy.md).

It says that everything which the log holds of one user before it, in its partition, is to be forgotten. It stands in
every partition, because producers of their own may have put events of the user anywhere; so its order against each of
the user's events is definite. Consumers know it by the header `record-kind`; events have none.
"""

from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from contracts.event import EventId, TenantId, Timestamp, UserId, is_tenant_id
from contracts.record import HEADER_EVENT_ID, HEADER_REQUEST_ID, PlacedRecord, key_of
from contracts.validation.rules import is_user_id

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


_decode = msgspec.json.Decoder(UserErasure).decode
_encode = msgspec.json.Encoder().encode


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
    headers = [
        (HEADER_RECORD_KIND, ERASURE.encode()),
        (HEADER_EVENT_ID, str(erasure.erasure_id).encode()),
        (HEADER_REQUEST_ID, request_id.encode()),
    ]
    if actor:
        headers.append((HEADER_ACTOR, actor[:MAX_ACTOR_LENGTH].encode(errors="replace")))
    return [PlacedRecord(key, value, headers, partition) for partition in range(partitions)]


def what_remains(log: str) -> list[str]:
    """A sentence for each place that keeps bytes of a user after the erasure. `log`: what to call the log."""
    return [
        f"{log} keeps the bytes of the events, and of the request, until the topic is rewritten.",
        "Dead letters that were published to their topic stay there.",
        "A dead letter that has no key, and a value that is no JSON, cannot be found by its user.",
        "PostgreSQL's statistics (pg_stats) may quote values of deleted rows until the next ANALYZE.",
        "PostgreSQL's files keep deleted rows until the space is used again; VACUUM FULL ends that, or a rebuild.",
        "PostgreSQL's write-ahead log, replicas that lag, and backups keep them until they expire.",
        "Exports that were handed out, and consumers of the topic, have what they took.",
    ]


def erasure_of(value: bytes | None) -> UserErasure | None:
    """The marker that a record's value is; None for any other record."""
    if value is None or not value.startswith(_START):
        return None
    try:
        return _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
