"""The key store as a projector uses it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from contracts.types import Catalogue
from projector.sealed.opener import UNSEALED, Opener, Unsealed
from sealing.store import KeyStore
from telemetry.health import DependencyState


@asynccontextmanager
async def connected_store(keys: "Keys | None") -> AsyncIterator[KeyStore | None]:
    """The key store, connected during the body; None: there is none. Raises KeysError."""
    if keys is None:
        yield None
        return
    try:
        await keys.store.open()
        yield keys.store
    finally:
        await keys.store.close()


@asynccontextmanager
async def opening(keys: "Keys | None", catalogue: Catalogue) -> AsyncIterator[Opener | Unsealed]:
    """An opener for a command, connected during the body. Raises KeysError."""
    async with connected_store(keys):
        yield UNSEALED if keys is None else keys.opener(catalogue)


class Keys(msgspec.Struct, frozen=True):
    """A key store, and of how many subjects each generation remembers the keys."""

    store: KeyStore
    limit: int

    def opener(self, catalogue: Catalogue) -> Opener:
        """A new opener, for one generation."""
        return Opener(self.store, catalogue.product_fields, self.limit)

    async def state(self) -> DependencyState:
        """For readiness: whether the key store answers with our keys, and erased users' keys can be destroyed."""
        return await self.store.state()
