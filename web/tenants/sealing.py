"""Texts that nobody can read or make without the key: AES-SIV (RFC 5297), in base64url.

Each text has a new nonce, so equal contents have different texts (docs/decisions/0037).
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from os import urandom

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

NONCE_BYTES, TAG_BYTES = 16, 16


class Seal:
    """Seals and opens texts with one key, for one purpose."""

    def __init__(self, key: bytes, purpose: bytes) -> None:
        """`purpose`: so that texts of one purpose do not open as those of another with the same key."""
        self._cipher = AESSIV(blake2b(key, person=purpose).digest())

    def seal(self, payload: bytes, *bound_to: bytes) -> str:
        """The text, which opens only with the same `bound_to`."""
        nonce = urandom(NONCE_BYTES)
        return spelled(nonce + self._cipher.encrypt(payload, [*bound_to, nonce]))

    def open(self, text: str, *bound_to: bytes) -> bytes | None:
        """What was sealed; None for any other text."""
        raw = decoded(text)
        if raw is None or len(raw) <= NONCE_BYTES + TAG_BYTES:
            return None
        nonce, sealed = raw[:NONCE_BYTES], raw[NONCE_BYTES:]
        try:
            return self._cipher.decrypt(sealed, [*bound_to, nonce])
        except InvalidTag:
            return None


def spelled(raw: bytes) -> str:
    """The bytes in base64url, without padding."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(text: str) -> bytes | None:
    """The bytes that `spelled` spells so; None for any other text. Base64 can spell the same bytes in several ways."""
    if not text.isascii():
        return None
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        return None
    return raw if spelled(raw) == text else None
