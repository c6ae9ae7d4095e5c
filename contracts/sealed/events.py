"""Version 3 of the event, the sealed one: who acted and the payload are readable only with a key (docs/decisions/0042).

In the clear are id, tenant, a random subject id, type, time and product. `sealed` is the rest, encrypted. What is in
the clear is authenticated: the associated data are the bytes of the value before `,"sealed":`, as they were written.
So the order of the fields is fixed, and a value in another order is no event.

`parts_to_seal` and `cut` cut values at known places instead of decoding them, which would cost as much as the
encryption. They look for single quotation marks: inside a JSON string those are escaped, and ids, types and times hold
none. Nothing that `cut` finds is believed before the seal proves the clear part to be as it was written.
"""

import binascii
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from contracts.event import DEFAULT_TENANT, EventId, EventTypeName, TenantId, Timestamp
from contracts.record import HEADER_FINGERPRINT, EventRecord

START_V3 = b'{"version":"3.0","eventId":"'
_USER, _TYPE, _METADATA, _PAYLOAD = b'"userId":', b',"eventType":"', b',"_metadata":', b',"payload":'
_ID_V1, _ID_V2 = slice(12, 48), slice(28, 64)  # of versions 1, and 2 and 3
_METADATA_OF_V2 = b'"schema_version":"2.0","migrated_at":null}'
# What stands between the values of version 3, from one quotation mark to the next.
_TENANT, _SUBJECT, _KIND = b'","tenantId":"', b'","subjectId":"', b'","eventType":"'
_TIME, _PRODUCT, _SEALED = b'","timestamp":"', b'","product":', b',"sealed":"'
_START_V1, _PRODUCT_OF = b'{"eventId":"', b',"product":'
SUBJECT_ID_LENGTH = 36
USUAL_HEADERS = 3
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


def parts_to_seal(value: bytes, named: bytes) -> tuple[bytes, bytes, bytes]:
    """Cuts a value of version 1 or 2 as `encode_new_event` wrote it. `named`: see `naming`.

    Returns:
        The month; the associated data up to the product, whose JSON follows: a string or null; and what is to be
        sealed: JSON of `userId` and `payload`. A tuple, and one call, as every sealed event pays for it.
    """
    is_v1 = value.startswith(_START_V1)
    event_id = _ID_V1 if is_v1 else _ID_V2
    user = event_id.stop + 2 if is_v1 else value.index(_USER, event_id.stop)
    kind = value.index(_TYPE, user)
    time = value.index(b'"', kind + len(_TYPE)) + len(_TIME)
    end = value.index(b'"', time) + 1
    payload = end if is_v1 else value.index(_PAYLOAD, end)
    clear = START_V3 + value[event_id] + named + value[kind:end] + _PRODUCT_OF  # formatting takes a third longer
    return value[time : time + MONTH], clear, b"{" + value[user:kind] + value[payload:]


def naming(tenant_id: str, subject_id: str) -> bytes:
    """What the clear part of a subject's events says after the event id."""
    return b'%b%b%b%b"' % (_TENANT, tenant_id.encode(), _SUBJECT, subject_id.encode())


def sealed_record(record: EventRecord, key: bytes, clear: bytes, sealed: bytes) -> EventRecord:
    """The record for Kafka. `key`: of the subject. No header tells what is sealed."""
    value = clear + _SEALED + binascii.b2a_base64(sealed, newline=False) + b'"}'
    headers = record.headers
    if len(headers) > USUAL_HEADERS:
        headers = [header for header in headers if header[0] != HEADER_FINGERPRINT]
    return EventRecord(key, value, headers)


class Cut(msgspec.Struct, frozen=True, gc=False):
    """A value of version 3 in parts."""

    subject_id: bytes
    month: bytes
    tenant_id: bytes
    middle: bytes  # type and time, as the value has them
    clear: bytes
    sealed: bytes


def is_sealed(value: bytes | None) -> bool:
    """Whether a record's value says that it is of version 3."""
    return value is not None and value.startswith(START_V3)


def cut(value: bytes) -> Cut | None:
    """Cuts a value of version 3; None if it is not written as `sealed_record` does."""
    start = _ID_V2.stop + len(_TENANT)
    tenant = value.find(b'"', start)
    subject = tenant + len(_SUBJECT)
    end = subject + SUBJECT_ID_LENGTH
    kind = value.find(b'"', end + len(_KIND))
    time = kind + len(_TIME)
    product = value.find(b'"', time)
    seal = value.rfind(b'"', product, -2) + 1
    clear = seal - len(_SEALED)
    if (
        min(tenant, kind, product) < 0
        or value[_ID_V2.stop : start] != _TENANT
        or value[tenant:subject] != _SUBJECT
        or value[end : end + len(_KIND)] != _KIND
        or value[kind:time] != _TIME
        or value[product : product + len(_PRODUCT)] != _PRODUCT
        or value[clear:seal] != _SEALED
        or not value.endswith(b'"}')
    ):
        return None
    try:
        sealed = binascii.a2b_base64(value[seal:-2], strict_mode=True)
    except binascii.Error:
        return None
    month, middle = value[time : time + MONTH], value[end + 1 : product + 1]
    return Cut(value[subject:end], month, value[start:tenant], middle, value[:clear], sealed)


def cut_of(value: bytes, tenant_id: bytes, subject_id: bytes, named: bytes) -> Cut | None:
    """As `cut`, at half the price, of an event of this subject; None: it is of another, or `cut` has to look closer.

    The seal proves to be ours whatever stands between the places that are found here. `named`: see `naming`.
    """
    kind = _ID_V2.stop + len(named)
    if not value.startswith(named, _ID_V2.stop) or not value.endswith(b'"}'):
        return None
    time = value.find(_TIME, kind) + len(_TIME)
    product = value.find(_PRODUCT, time)
    clear = value.rfind(_SEALED, product)
    if time < kind or clear < 0:  # in vain `find` begins at -1
        return None
    try:
        sealed = binascii.a2b_base64(value[clear + len(_SEALED) : -2], strict_mode=True)
    except binascii.Error:
        return None
    middle = value[kind : product + 1]
    return Cut(subject_id, value[time : time + MONTH], tenant_id, middle, value[:clear], sealed)


def event_value(found: Cut, secret: bytes) -> bytes:
    """The value of version 1 or 2 that was sealed, from what an opened seal proves to be as it was written."""
    payload = secret.index(_PAYLOAD)
    event_id, user, rest = found.clear[_ID_V2], secret[1:payload], secret[payload:]
    if found.tenant_id == b"default":
        return b'{"eventId":"%b",%b%b%b' % (event_id, user, found.middle, rest)
    named = (event_id, found.tenant_id, user, found.middle, _METADATA, _METADATA_OF_V2, rest)
    return b'{"version":"2.0","eventId":"%b","tenantId":"%b",%b%b%b{%b%b' % named


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


def stub_value(event: UserEventV3, product_field: str | None, name: str | None = None) -> bytes:
    """The value of the same event without a name, whose payload has nothing but the product: its key is gone.

    `name`: the user id of the stub; None: that of its subject.
    """
    payload = {} if event.product is None or product_field is None else {product_field: event.product}
    stub = _Stub(event.event_id, name or stub_name(str(event.subject_id)), event.event_type, event.timestamp, payload)
    value = _encode(stub)
    if event.tenant_id == DEFAULT_TENANT:
        return value
    cut = value.index(_USER)
    written = b'{"version":"2.0",%b"tenantId":"%b",%b' % (value[1:cut], event.tenant_id.encode(), value[cut:])
    return written.replace(_PAYLOAD, _METADATA + b"{" + _METADATA_OF_V2 + _PAYLOAD, 1)


def stub_name(told: str) -> str:
    """The user id of stubs. `told`: the user's pseudonym, or a subject of whose user nobody knows one."""
    return f"erased-{told}"
