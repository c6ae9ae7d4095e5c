"""The fence of an erasure: the user's subjects are retired before the marker is written."""

import asyncio
from functools import partial

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contracts.erasure import Fenced, UserErasure
from sealing.cipher import seal
from sealing.errors import KeysError
from sealing.store import KeyStore

FENCE_TIMEOUT = 5.0  # seconds


class StoreFences:
    """Fences of one key store."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store

    async def fence(self, erasure: UserErasure) -> Fenced | None:
        """See `command_side.erasures.Fences`."""
        try:
            async with asyncio.timeout(FENCE_TIMEOUT):
                return await fence(self._store, erasure)
        except (KeysError, TimeoutError):
            return None


async def fence(store: KeyStore, erasure: UserErasure) -> Fenced:
    """Retires the subjects of a user. Raises KeysError."""
    found = await store.retire((erasure.tenant_id, erasure.user_id), erasure.erasure_id)
    return Fenced(found.subject_ids, partial(seal, AESGCM(found.key)))
