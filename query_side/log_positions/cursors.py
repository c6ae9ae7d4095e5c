"""Cursors: opaque, signed texts that say where a page ended. A cursor is valid only for the query it was made for.

A cursor is base64url of `tag || payload`. The tag is a keyed BLAKE2b of 128 bits (RFC 7693), at a tenth of the cost of
HMAC. It covers the payload and the query that the cursor is bound to; the cursor itself does not contain the query.
"""

import binascii
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b

import asyncpg

TAG_BYTES = 16
MAX_CURSOR_LENGTH = 4_096  # characters
KEY = "SELECT value FROM ops.secrets WHERE name = 'cursors'"


class KeyMissingError(Exception):
    """The database has no key for cursors yet. The text says what to do."""


class Cursors:
    """Seals and opens cursors with one key. Processes with the same key accept each other's cursors."""

    def __init__(self, key: bytes) -> None:
        self._key = blake2b(key).digest()  # a key of any length becomes 64 bytes, BLAKE2b's longest key

    def seal(self, payload: bytes, bound_to: bytes) -> str:
        """Returns a cursor, in the alphabet of base64url.

        Args:
            payload: the position that the cursor carries.
            bound_to: identifies the query that the cursor is valid for.
        """
        return urlsafe_b64encode(self._tag(payload, bound_to) + payload).rstrip(b"=").decode()

    def open(self, text: str, bound_to: bytes) -> bytes | None:
        """Returns a cursor's payload; None if it was sealed with another key or for another query."""
        if len(text) > MAX_CURSOR_LENGTH or not text.isascii():
            return None
        try:
            raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except binascii.Error:
            return None
        tag, payload = raw[:TAG_BYTES], raw[TAG_BYTES:]
        genuine = hmac.compare_digest(tag, self._tag(payload, bound_to))
        # Base64 can spell the same bytes in several ways. Only our own spelling is accepted.
        return payload if genuine and self.seal(payload, bound_to) == text else None

    def _tag(self, payload: bytes, bound_to: bytes) -> bytes:
        text = b"%d:%b%b" % (len(payload), payload, bound_to)
        return blake2b(text, key=self._key, digest_size=TAG_BYTES).digest()


async def cursors_of(connection: asyncpg.Pool, secret: str) -> Cursors:
    """Returns cursors signed with a secret, or with the key in the database that a migration created.

    Args:
        connection: reads the key.
        secret: the secret; empty: use the database's key.

    Raises:
        KeyMissingError: the database has no key yet.
    """
    if secret:
        return Cursors(secret.encode())
    try:
        key = await connection.fetchval(KEY)
    except asyncpg.UndefinedTableError:
        key = None
    if key is None:
        raise KeyMissingError("The database is older than this release: run `footfall migrate`, then start again.")
    return Cursors(key)
