"""Cursors: opaque text that says where a page ended, signed, and good only for what it was made for.

A cursor is base64url of `tag || payload`; the tag is keyed BLAKE2b of 128 bits (RFC 7693; a tenth of the cost of HMAC)
over the payload and over what the cursor is bound to, which the cursor itself does not carry.
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
    """The database has no key for cursors yet."""


class Cursors:
    """Seals and opens cursors with one key; processes with the same key take each other's."""

    def __init__(self, key: bytes) -> None:
        self._key = blake2b(key).digest()  # of any length; BLAKE2b takes 64 bytes

    def seal(self, payload: bytes, bound_to: bytes) -> str:
        """The cursor as text of the alphabet of base64url."""
        return urlsafe_b64encode(self._tag(payload, bound_to) + payload).rstrip(b"=").decode()

    def open(self, text: str, bound_to: bytes) -> bytes | None:
        """The payload; None for what was not sealed with this key, or was for something else."""
        if len(text) > MAX_CURSOR_LENGTH or not text.isascii():
            return None
        try:
            raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except binascii.Error:
            return None
        tag, payload = raw[:TAG_BYTES], raw[TAG_BYTES:]
        genuine = hmac.compare_digest(tag, self._tag(payload, bound_to))
        # Base64 has several spellings of the same bytes; only ours counts.
        return payload if genuine and self.seal(payload, bound_to) == text else None

    def _tag(self, payload: bytes, bound_to: bytes) -> bytes:
        text = b"%d:%b%b" % (len(payload), payload, bound_to)
        return blake2b(text, key=self._key, digest_size=TAG_BYTES).digest()


async def cursors_of(connection: asyncpg.Pool, secret: str) -> Cursors:
    """Cursors signed with `secret`, or, when that is empty, with the key that the migration left in the database.

    Raises KeyMissingError when there is none yet.
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
