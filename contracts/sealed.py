"""Version 3 of the event, the sealed one: who acted and the payload are readable only with a key (docs/decisions/0042).

In the clear are id, tenant, a random subject id, type, time and product. `sealed` is the rest, encrypted. What is in
the clear is authenticated: the associated data are the bytes of the value before `,"sealed":`, as they were written.
So the order of the fields is fixed, and a value in another order is no event.

`unsealed_parts` and `event_of` cut values at fixed places instead of decoding them, which would cost as much as the
encryption. Inside a JSON string quotation marks are escaped, so no string can look like the beginning of a field.
"""

import binascii
from datetime import datetime
from typing import Annotated, Literal, NamedTuple
from uuid import UUID

import msgspec

from contracts.event import DEFAULT_TENANT, EventId, EventTypeName, TenantId, Timestamp
from contracts.record import HEADER_FINGERPRINT, EventRecord, key_of, tenant_of_key

START_V3 = b'{"version":"3.0","eventId":"'
_ID = slice(len(START_V3), len(START_V3) + 36)
_USER, _TYPE, _METADATA, _PAYLOAD = b'"userId":', b',"eventType":"', b',"_metadata":', b',"payload":'
_SUBJECT, _TIME, _PRODUCT, _SEALED = b'","subjectId":"', b'","timestamp":"', b',"product":', b',"sealed":"'
_TENANT_AT = _ID.stop + len(b'","tenantId":"')
MONTH = 7  # characters of a time that name its month: 2026-11

_encode = msgspec.json.Encoder().encode

SubjectId = Annotated[
    UUID,
    msgspec.Meta(
        description="Random id of whom the event is about, until they are erased; it is the record's key, too."
    ),
]
Product = Annotated[
    str | None, msgspec.Meta(description="The product, if the type's events name one and this event does.")
]
Sealed = Annotated[
    bytes,
    msgspec.Meta(
        description="Nonce (12 bytes), ciphertext and tag (16 bytes) of AES-256-GCM, in base64. The key is HMAC-SHA256"
        " of the subject's key with the month's key; the associated data are the value's bytes before `,\"sealed\":`."
        " Inside is JSON: `userId` and `payload`."
    ),
]


class UserEventV3(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Version 3: who acted and the payload are sealed by a key of the subject. The fields stand in this order."""

    version: Literal["3.0"]
    event_id: EventId
    tenant_id: TenantId
    subject_id: SubjectId
    event_type: EventTypeName
    timestamp: Timestamp
    product: Product
    sealed: Sealed


_decode = msgspec.json.Decoder(UserEventV3).decode


class Unsealed(NamedTuple):
    """A plain record's value in two parts: `clear` lacks nothing but the seal, `secret` is what is to be sealed."""

    event_id: bytes
    month: bytes
    middle: bytes  # type and time, as the value has them
    secret: bytes  # JSON of `userId` and `payload`


def unsealed_parts(value: bytes) -> Unsealed:
    """Cuts a value of version 1 or 2 as `encode_new_event` wrote it."""
    user = value.index(_USER)
    kind = value.index(_TYPE, user)
    payload = value.index(_PAYLOAD, kind)
    end = value.find(_METADATA, kind, payload)
    middle = value[kind : payload if end < 0 else end]
    time = middle.index(_TIME) + len(_TIME)
    event_id = value[12:48] if value.startswith(b'{"eventId":"') else value[28:64]
    return Unsealed(event_id, middle[time : time + MONTH], middle, b"{%b%b" % (value[user:kind], value[payload:]))


def clear_part(parts: Unsealed, tenant_id: bytes, subject_id: bytes, product: bytes) -> bytes:
    """The value before its seal: the associated data. `product`: JSON, a string or null."""
    return b'%b%b","tenantId":"%b","subjectId":"%b"%b,"product":%b' % (
        START_V3,
        parts.event_id,
        tenant_id,
        subject_id,
        parts.middle,
        product,
    )


def sealed_record(record: EventRecord, clear: bytes, subject_id: str, sealed: bytes) -> EventRecord:
    """The record for Kafka. Its key is the subject, and no header tells what is sealed."""
    value = b'%b,"sealed":"%b"}' % (clear, binascii.b2a_base64(sealed, newline=False))
    headers = record.headers
    if len(headers) > 3:
        headers = [header for header in headers if header[0] != HEADER_FINGERPRINT]
    return EventRecord(key_of(tenant_of_key(record.key), subject_id), value, headers)


class Cut(NamedTuple):
    """A value of version 3, cut; nothing of it is checked before its seal is opened."""

    subject_id: bytes
    month: bytes
    clear: bytes
    sealed: bytes


def is_sealed(value: bytes | None) -> bool:
    """Whether a record's value says that it is of version 3."""
    return value is not None and value.startswith(START_V3)


def cut(value: bytes) -> Cut | None:
    """Cuts a value of version 3; None if it is not written as `sealed_record` does."""
    end = value.rfind(_SEALED)
    subject = value.find(_SUBJECT, _TENANT_AT, end) + len(_SUBJECT)
    time = value.find(_TIME, subject, end) + len(_TIME)
    if end < 0 or subject < len(_SUBJECT) or time < len(_TIME):
        return None
    try:
        sealed = binascii.a2b_base64(value[end + len(_SEALED) : -2], strict_mode=True)
    except binascii.Error:
        return None
    return Cut(value[subject : subject + 36], value[time : time + MONTH], value[:end], sealed)


def event_value(clear: bytes, secret: bytes) -> bytes:
    """The value of version 1 or 2 that was sealed, from what an opened seal proves to be as it was written."""
    tenant = clear[_TENANT_AT : clear.index(_SUBJECT)]
    kind = clear.index(_TYPE)
    middle = clear[kind : clear.rindex(_PRODUCT)]
    payload = secret.index(_PAYLOAD)
    if tenant == b"default":
        return b'{"eventId":"%b",%b%b%b' % (clear[_ID], secret[1:payload], middle, secret[payload:])
    return b'{"version":"2.0","eventId":"%b","tenantId":"%b",%b%b,"_metadata":%b%b' % (
        clear[_ID],
        tenant,
        secret[1:payload],
        middle,
        b'{"schema_version":"2.0","migrated_at":null}',
        secret[payload:],
    )


def decoded_v3(value: bytes) -> UserEventV3 | None:
    """What is in the clear, checked; None if it is no event of version 3."""
    try:
        return _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class _Stub(msgspec.Struct, frozen=True, rename="camel"):
    event_id: EventId
    user_id: str
    event_type: str
    timestamp: datetime
    payload: dict[str, str]


def stub_value(event: UserEventV3, product_field: str | None) -> bytes:
    """The value of the same event without a name, whose payload has nothing but the product: its key is gone."""
    payload = {} if event.product is None or product_field is None else {product_field: event.product}
    name = stub_name(str(event.subject_id))
    stub = _Stub(event.event_id, name, event.event_type, event.timestamp, payload)
    value = _encode(stub)
    if event.tenant_id == DEFAULT_TENANT:
        return value
    cut = value.index(_USER)
    written = b'{"version":"2.0",%b"tenantId":"%b",%b' % (value[1:cut], event.tenant_id.encode(), value[cut:])
    return written.replace(_PAYLOAD, b',"_metadata":{"schema_version":"2.0","migrated_at":null}' + _PAYLOAD, 1)


def stub_name(subject_id: str) -> str:
    """The user id of stubs of a subject whose key is gone."""
    return f"erased-{subject_id}"
