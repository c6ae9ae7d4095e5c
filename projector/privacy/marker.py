"""An erasure marker as the projector meets it."""

import msgspec

from contracts.erasure import UserErasure
from contracts.record import key_of


class Marker(msgspec.Struct, frozen=True):
    """An erasure, and where its marker stands in the log."""

    erasure: UserErasure
    topic: str
    partition: int
    offset: int

    @property
    def user(self) -> tuple[str, str]:
        """The tenant and the user."""
        return self.erasure.tenant_id, self.erasure.user_id

    @property
    def key(self) -> bytes:
        """The key of the user's records."""
        return key_of(*self.user)
