"""Decides what stands in the new topic instead of a record of an erased user. Pure.

An event becomes a stub: nobody's name, an id that nobody was told, its hour, its type and product, so that counts stay
when a generation is built from the new topic. A marker becomes that of the stubs. What is no event keeps its place.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, Protocol
from uuid import UUID

import msgspec

from contracts.blank import BLANK, BLANK_HEADERS
from contracts.erasure import (
    ERASURE,
    HEADER_RECORD_KIND,
    SealedErasure,
    UserErasure,
    encode_erasure,
    erasure_of,
    sealed_erasure_of,
)
from contracts.event import UserEvent
from contracts.record import HEADER_EVENT_ID, HEADER_EVENT_TYPE, from_value, key_of
from contracts.sealed.events import stub_name
from contracts.versions import encode_event
from contracts.wire.cloud_events import renamed_headers
from contracts.wire.frames import frame_of
from projector.privacy.erased_users import User, user_of_key, users_of_record
from read_model.pseudonyms import pseudonym

LETTER_HEADER = "footfall-dlq-"
ERASED_MESSAGE = b"The record is erased."
HOUR_MS = 3_600_000
Headers = Sequence[tuple[str, bytes]]
Kind = Literal["same", "event", "marker", "unreadable", "key", "letter", "blank"]
_encode = msgspec.json.Encoder().encode


class SourceRecord(Protocol):
    """A record as aiokafka reads it."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Copy(msgspec.Struct, frozen=True):
    """A record of the new topic. `kind`: what became of the old one. `timestamp`: ms since 1970; None: now."""

    kind: Kind
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int | None


def blank(timestamp: int | None = None) -> Copy:
    """A record that says nothing."""
    return Copy("blank", None, BLANK, BLANK_HEADERS, timestamp)


class SealedErasures(msgspec.Struct, frozen=True):
    """Users whom markers of the sealed log erase: who they were is known by their pseudonyms only.

    `secret`: of the pseudonyms. `until`: by pseudonym, the offset of the last marker in each partition. `names`: by
    pseudonym, the name of stubs that the last marker deletes.
    """

    secret: bytes = b""
    until: Mapping[bytes, Mapping[int, int]] = {}
    names: Mapping[bytes, str] = {}

    def of(self, user: User) -> bytes | None:
        """The pseudonym of a user who is erased."""
        if not self.until:
            return None
        found = pseudonym(self.secret, *user)
        return found if found in self.until else None


NOBODY_SEALED = SealedErasures()


class Substitutes:
    """Makes the copies of records.

    Args:
        secret: Names the stubs. Whoever does not have it cannot test a guess.
        until: For each erased user the offset of their last marker in each partition.
        products: Payload fields that name a product.
        keeps_counts: False: blanks stand in the place of stubs and markers, and counts shrink with the next rebuild.
        sealed: Whom markers of the sealed log erase; of these, the log may have events from before it was sealed.
    """

    def __init__(
        self,
        secret: bytes,
        until: Mapping[User, Mapping[int, int]],
        products: frozenset[str],
        *,
        keeps_counts: bool,
        sealed: SealedErasures = NOBODY_SEALED,
    ) -> None:
        self._secret, self._until, self._products, self._keeps_counts = secret, until, products, keeps_counts
        self._sealed = sealed

    def event(self, record: SourceRecord) -> Copy:
        """The copy of a record of the topic of events."""
        erasure = erasure_of(record.value)
        if erasure is not None:
            return self._marker(record, erasure)
        sealed_erasure = sealed_erasure_of(record.value)
        if sealed_erasure is not None:
            return self._sealed_marker(record, sealed_erasure[0])
        event = from_value(record.value)
        if isinstance(event, UserEvent):
            return self._event(record, event)
        user = self._erased_among(users_of_record(record.key, record.value), record.partition, record.offset)
        if user is None:
            return _same(record)
        name = self._name(user, record.partition, record.offset)
        value = _encode({"tenantId": user[0], "userId": name})  # set aside as the record was, until the marker
        return self._kept(record, Copy("unreadable", key_of(user[0], name), value, [], _hour_of(record.timestamp)))

    def letter(self, record: SourceRecord) -> Copy:
        """The copy of a record of the dead-letter topic: headers say where the letter stood."""
        told = {name: value for name, value in record.headers if name.startswith(LETTER_HEADER)}
        place = _number(told, "partition"), _number(told, "offset")
        user = self._erased_among(users_of_record(record.key, record.value), *place)
        if user is None:
            return _same(record)
        told[f"{LETTER_HEADER}error-message"] = ERASED_MESSAGE
        return Copy("letter", None, None, list(told.items()), _hour_of(record.timestamp))

    def _marker(self, record: SourceRecord, erasure: UserErasure) -> Copy:
        user = (erasure.tenant_id, erasure.user_id)
        if record.offset > self._until.get(user, {}).get(record.partition, -1):
            return _same(record)
        name = self._name(user, record.partition, record.offset)
        return self._marker_of_stub(record, erasure, name)

    def _sealed_marker(self, record: SourceRecord, erasure: SealedErasure) -> Copy:
        """A marker of the sealed log names nobody; one of no subject cannot delete stubs, so that of stubs can."""
        name = stub_name(str(erasure.erasure_id))
        if name not in self._sealed.names.values():
            return _same(record)
        told = UserErasure(
            "2.1", ERASURE, erasure.erasure_id, erasure.tenant_id, name, _to_the_hour(erasure.requested_at)
        )
        return self._marker_of_stub(record, told, name)

    def _marker_of_stub(self, record: SourceRecord, erasure: UserErasure, name: str) -> Copy:
        tenant_id, renamed = erasure.tenant_id, self._id(erasure.tenant_id, erasure.erasure_id)
        stub = msgspec.structs.replace(
            erasure, erasure_id=renamed, user_id=name, requested_at=_to_the_hour(erasure.requested_at)
        )
        kind = (HEADER_RECORD_KIND, ERASURE.encode())
        headers = _headers(record, kind, renamed, encode_erasure(stub))
        copy = Copy("marker", key_of(tenant_id, name), encode_erasure(stub), headers, _hour_of(record.timestamp))
        return self._kept(record, copy)

    def _event(self, record: SourceRecord, event: UserEvent) -> Copy:
        user = (event.tenant_id, event.user_id)
        if not self._is_erased(user, record.partition, record.offset):
            return self._with_key_of(record, event)
        stub = msgspec.structs.replace(
            event,
            event_id=self._id(event.tenant_id, event.event_id),
            user_id=self._name(user, record.partition, record.offset),
            timestamp=_to_the_hour(event.timestamp),
            payload={name: event.payload[name] for name in sorted(self._products & event.payload.keys())},
        )
        value = encode_event(stub)
        headers = _headers(record, (HEADER_EVENT_TYPE, stub.event_type.encode()), stub.event_id, value)
        key = key_of(stub.tenant_id, stub.user_id)
        return self._kept(record, Copy("event", key, value, headers, _hour_of(record.timestamp)))

    def _with_key_of(self, record: SourceRecord, event: UserEvent) -> Copy:
        """The record of somebody else; if its key names an erased user, with the key that it should have."""
        named = user_of_key(record.key)
        if named is None or not self._is_erased(named, record.partition, record.offset):
            return _same(record)
        return Copy("key", key_of(event.tenant_id, event.user_id), record.value, record.headers, record.timestamp)

    def _kept(self, record: SourceRecord, stub: Copy) -> Copy:
        """The stub, or a blank; framed as the record was."""
        copy = stub if self._keeps_counts else blank(stub.timestamp)
        frame = frame_of(record.value or b"")
        return msgspec.structs.replace(copy, value=frame + (copy.value or b"")) if frame else copy

    def _erased_among(self, users: Iterable[User], partition: int, offset: int) -> User | None:
        return next((user for user in users if self._is_erased(user, partition, offset)), None)

    def _is_erased(self, user: User, partition: int, offset: int) -> bool:
        if offset < self._until.get(user, {}).get(partition, -1):
            return True
        sealed = self._sealed.of(user)
        return sealed is not None and offset < self._sealed.until[sealed].get(partition, -1)

    def _name(self, user: User, partition: int, offset: int) -> str:
        """What the stub of an erased user's record is called: what the marker behind it deletes."""
        if offset > self._until.get(user, {}).get(partition, -1):
            sealed = self._sealed.of(user)
            if sealed is not None:
                return self._sealed.names[sealed]
        return f"erased-{pseudonym(self._secret, *user).hex()[:32]}"

    def _id(self, tenant_id: str, told: UUID) -> UUID:
        """An id instead of one that was told; the same for the same, so that duplicates stay duplicates (UUIDv8)."""
        digest = hmac.digest(self._secret, b"%b\0%b" % (tenant_id.encode(), told.bytes), hashlib.sha256)[:16]
        return UUID(int=int.from_bytes(digest) & ~(0xF << 76 | 0x3 << 62) | 8 << 76 | 2 << 62)


def _headers(record: SourceRecord, kind: tuple[str, bytes], event_id: UUID, value: bytes) -> Headers:
    """Those of a stub; a CloudEvent's, too, if the record has them."""
    told = str(event_id).encode()
    return [kind, (HEADER_EVENT_ID, told), *renamed_headers(record.headers, told, kind[1], value)]


def _same(record: SourceRecord) -> Copy:
    return Copy("same", record.key, record.value, record.headers, record.timestamp)


def _to_the_hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _hour_of(timestamp: int) -> int:
    return timestamp - timestamp % HOUR_MS


def _number(headers: Mapping[str, bytes], name: str) -> int:
    text = headers.get(f"{LETTER_HEADER}{name}", b"")
    return int(text) if text.isdigit() else -1
