"""One key as the register's topic carries it: JSON under the key's id. It holds digests, never a key."""

from datetime import datetime

import msgspec

from contracts.event import TenantId
from identity.keys.key_text import KeyKind
from web.policies.principal import AccessScope


class KeyDigest(msgspec.Struct, frozen=True, rename="camel"):
    """One of the at most two texts that a key has while it is rotated."""

    sha256: str  # hexadecimal
    created_at: datetime
    expires_at: datetime | None = None  # the older one's end, once there is a newer one


class KeyRecord(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """All that is known of a key."""

    key_id: str
    kind: KeyKind
    tenant_id: TenantId
    name: str
    scopes: frozenset[AccessScope]
    digests: tuple[KeyDigest, ...]  # the newest first
    created_at: datetime
    created_by: str
    origins: tuple[str, ...] = ()  # of a public key: where browsers may send from
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    version: int = 1


_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(KeyRecord).decode


def encode_key(record: KeyRecord) -> bytes:
    """The value of the record in Kafka."""
    return _encode(record)


def decode_key(value: bytes) -> KeyRecord:
    """The opposite. Raises msgspec.MsgspecError for what is no record of a key."""
    return _decode(value)
