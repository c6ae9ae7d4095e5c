"""The key store as a projector uses it."""

import msgspec

from contracts.types import Catalogue
from projector.sealed.opener import Opener
from sealing.errors import KeysError
from sealing.store import KeyStore
from telemetry.health import DependencyState


class Keys(msgspec.Struct, frozen=True):
    """A key store, and of how many subjects each generation remembers the keys."""

    store: KeyStore
    limit: int

    def opener(self, catalogue: Catalogue) -> Opener:
        """A new opener, for one generation."""
        return Opener(self.store, catalogue.product_fields, self.limit)

    async def state(self) -> DependencyState:
        """For readiness: whether the key store answers with our keys."""
        try:
            await self.store.check()
        except KeysError as error:
            return DependencyState(ok=False, detail=str(error))
        return DependencyState(ok=True)
