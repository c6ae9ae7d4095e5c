"""Cursors: opaque, signed texts that say where a page ended. A cursor is valid only for the query it was made for.

A cursor is base64url of `tag || payload`. The tag is a keyed BLAKE2b of 128 bits (RFC 7693), at a tenth of the cost of
HMAC. It covers the payload and the query that the cursor is bound to; the cursor itself does not contain the query.

Offsets count the events of all tenants. So the default tenant's cursors are signed, and other tenants' are encrypted as
well, with AES-SIV (RFC 5297) and a new nonce each time: equal positions have different cursors, because equal cursors
would say that nobody wrote. The tenant is part of what a cursor is bound to (docs/decisions/0037).
"""

import hmac
from collections.abc import Sequence
from hashlib import blake2b

import asyncpg

from web.policies.principal import DEFAULT_TENANT
from web.tenants.sealing import Seal, decoded, spelled

TAG_BYTES = 16
MAX_CURSOR_LENGTH = 4_096  # characters
KEY = "SELECT value FROM ops.secrets WHERE name = 'cursors'"


class KeyMissingError(Exception):
    """The database has no key for cursors yet. The text says what to do."""


class SealedCursors:
    """The cursors of one tenant other than the default: nobody can read them, and no other tenant can use them."""

    def __init__(self, seals: Sequence[Seal], tenant_id: str) -> None:
        """`seals`: the first one seals, each of them opens."""
        self._seals, self._tenant = seals, tenant_id.encode()

    def seal(self, payload: bytes, bound_to: bytes) -> str:
        """See `Cursors.seal`."""
        return self._seals[0].seal(payload, self._tenant, bound_to)

    def open(self, text: str, bound_to: bytes) -> bytes | None:
        """See `Cursors.open`; None, too, for another tenant's cursor."""
        if len(text) > MAX_CURSOR_LENGTH:
            return None
        opened = (seal.open(text, self._tenant, bound_to) for seal in self._seals)
        return next((payload for payload in opened if payload is not None), None)


class Cursors:
    """Seals and opens cursors with one key. Processes with the same key accept each other's cursors.

    These are the default tenant's; `of` gives another tenant's.
    """

    def __init__(self, key: bytes, also: bytes = b"") -> None:
        """`also`: another key whose cursors are opened, too, while keys are changed; empty: there is none."""
        self._also = Cursors(also) if also else None
        self._key = blake2b(key).digest()  # a key of any length becomes 64 bytes, BLAKE2b's longest key
        self._seal = Seal(key, b"footfall-cursor")

    def of(self, tenant_id: str) -> "TenantCursors":
        """The cursors of a tenant."""
        if tenant_id == DEFAULT_TENANT:
            return self
        return SealedCursors(self.seals(), tenant_id)

    def seals(self) -> list[Seal]:
        """Returns what seals other tenants' cursors, and then what opens them, too."""
        return [self._seal, *(self._also.seals() if self._also is not None else ())]

    def seal(self, payload: bytes, bound_to: bytes) -> str:
        """Returns a cursor, in the alphabet of base64url.

        Args:
            payload: the position that the cursor carries.
            bound_to: identifies the query that the cursor is valid for.
        """
        return spelled(self._tag(payload, bound_to) + payload)

    def open(self, text: str, bound_to: bytes) -> bytes | None:
        """Returns a cursor's payload; None if it was sealed with another key or for another query."""
        opened = self._open(text, bound_to)
        return opened if opened is not None or self._also is None else self._also.open(text, bound_to)

    def _open(self, text: str, bound_to: bytes) -> bytes | None:
        raw = decoded(text) if len(text) <= MAX_CURSOR_LENGTH else None
        if raw is None:
            return None
        tag, payload = raw[:TAG_BYTES], raw[TAG_BYTES:]
        return payload if hmac.compare_digest(tag, self._tag(payload, bound_to)) else None

    def _tag(self, payload: bytes, bound_to: bytes) -> bytes:
        text = b"%d:%b%b" % (len(payload), payload, bound_to)
        return blake2b(text, key=self._key, digest_size=TAG_BYTES).digest()


TenantCursors = Cursors | SealedCursors


async def cursors_of(connection: asyncpg.Pool, secret: str, also: str = "") -> Cursors:
    """Returns cursors signed with a secret, or with the key in the database that a migration created.

    Args:
        connection: reads the key.
        secret: the secret; empty: use the database's key.
        also: another secret whose cursors are opened, too; empty: there is none.

    Raises:
        KeyMissingError: the database has no key yet.
    """
    if secret:
        return Cursors(secret.encode(), also.encode())
    try:
        key = await connection.fetchval(KEY)
    except asyncpg.UndefinedTableError:
        key = None
    if key is None:
        raise KeyMissingError("The database is older than this release: run `footfall migrate`, then start again.")
    return Cursors(key, also.encode())
