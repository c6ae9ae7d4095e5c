"""Seals and opens events with AES-256-GCM (NIST SP 800-38D), by a key of subject and month.

The key is HMAC-SHA256 of the subject's key with the month's key of the tenant. Without either nothing can be opened: to
destroy the subject's key forgets a user, to destroy a month's key forgets what happened in that month (UTC).

Nonces are random: 96 bits are enough for 2^32 events of one subject in one month (section 8.3).
"""

import hmac
import os
from collections.abc import Iterator
from hashlib import sha256
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
AT_ONCE = 256  # nonces


def new_key() -> bytes:
    """A random key."""
    return os.urandom(KEY_BYTES)


def cipher_of(subject_key: bytes, month_key: bytes) -> AESGCM:
    """What seals and opens the events of one subject in one month."""
    return AESGCM(hmac.digest(month_key, subject_key, sha256))


def erasure_key(subject_key: bytes, erasure_id: UUID) -> bytes:
    """The key that seals the user's id in the markers of an erasure.

    It follows from the key of a subject, so that a key store which was restored, and knows nothing of the erasure, can
    read the markers if it can read the user's events; and nobody can once both keys are destroyed.
    """
    return hmac.digest(subject_key, b"erasure " + erasure_id.bytes, sha256)


def seal(cipher: AESGCM, secret: bytes, clear: bytes) -> bytes:
    """Nonce, ciphertext and tag. `clear`: the associated data."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, secret, clear)


def nonces() -> Iterator[bytes]:
    """Random nonces, for ever: a call of the system for many of them, as each costs half as much as an encryption."""
    while True:
        drawn = os.urandom(NONCE_BYTES * AT_ONCE)
        for start in range(0, len(drawn), NONCE_BYTES):
            yield drawn[start : start + NONCE_BYTES]


def opened(cipher: AESGCM, sealed: bytes, clear: bytes) -> bytes | None:
    """What was sealed; None if the seal does not fit the key or the associated data."""
    if len(sealed) < NONCE_BYTES + TAG_BYTES:
        return None
    try:
        return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], clear)
    except InvalidTag:
        return None
