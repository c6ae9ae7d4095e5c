"""Event ids that are derived from idempotency keys: the same key is the same event, for ever (decision 5)."""

import hashlib
from uuid import UUID

import msgspec


class KeySpace(msgspec.Struct, frozen=True):
    """Where an idempotency key is unique. Equal keys of two tenants, or of two spaces of one, have nothing in common.

    `name`: empty for the space that a tenant's servers share. Neither field contains NUL.
    """

    tenant_id: str
    name: str = ""


def derived_event_id(space: KeySpace, key: bytes) -> UUID:
    """A UUIDv8 (RFC 9562, section 5.8) from the SHA-256 of space and key, none of which contains NUL."""
    named = b"%b\0" % space.name.encode() if space.name else b""
    digest = hashlib.sha256(b"%b\0%b%b" % (space.tenant_id.encode(), named, key)).digest()
    number = int.from_bytes(digest[:16], "big")
    number = number & ~(0xF << 76) | 0x8 << 76  # version
    return UUID(int=number & ~(0x3 << 62) | 0x2 << 62)  # variant
