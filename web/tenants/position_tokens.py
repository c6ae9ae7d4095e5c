"""The text of a position in the log: what an accepted command is answered with, and what a query may wait for.

The default tenant's is `<partition>-<offset>`, as the original clients know it. An offset counts the events of all
tenants, so another tenant's is sealed with AES-SIV (RFC 5297), and opens only for the tenant that it was made for. Each
text has a new nonce: equal texts of how far the read model is would say that nobody wrote (docs/decisions/0037).
"""

import re
import struct

from web.policies.principal import DEFAULT_TENANT
from web.tenants.sealing import Seal

MIN_SECRET_LENGTH = 16  # characters
DESCRIPTION = (
    "Key that seals positions for tenants other than `default`, at least 16 characters, the same for both sides; "
    "empty: such tenants get no positions."
)

_plain = re.compile(r"([0-9]{1,6})-([0-9]{1,18})", re.ASCII).fullmatch
_sealed = re.compile(r"[A-Za-z0-9_-]{59}").fullmatch
_packed = struct.Struct(">IQ")


class PositionTokens:
    """Writes and reads positions, for one tenant each time."""

    def __init__(self, secret: str, also: str = "") -> None:
        """`secret`: see `DESCRIPTION`. `also`: another one whose positions are read, too; empty: there is none."""
        self._seal = Seal(secret.encode(), b"footfall-place") if secret else None
        self._also = PositionTokens(also) if secret and also else None

    def gives_any(self, tenant_id: str) -> bool:
        """Whether the tenant is given positions."""
        return tenant_id == DEFAULT_TENANT or self._seal is not None

    def text(self, tenant_id: str, partition: int, offset: int) -> str | None:
        """The position's text; None where the tenant gets none, because there is no secret."""
        if tenant_id == DEFAULT_TENANT:
            return f"{partition}-{offset}"
        return None if self._seal is None else self._seal.seal(_packed.pack(partition, offset), tenant_id.encode())

    def read(self, tenant_id: str, text: str) -> tuple[int, int] | None:
        """Partition and offset; None for a text that is no position of this tenant."""
        if tenant_id == DEFAULT_TENANT:
            found = _plain(text)
            return None if found is None else (int(found[1]), int(found[2]))
        place = self._opened(tenant_id, text)
        return place if place is not None or self._also is None else self._also.read(tenant_id, text)

    def _opened(self, tenant_id: str, text: str) -> tuple[int, int] | None:
        if self._seal is None or not _sealed(text):
            return None
        place = self._seal.open(text, tenant_id.encode())
        if place is None:
            return None
        partition, offset = _packed.unpack(place)
        return partition, offset


def checked_secret(secret: str) -> str:
    """The secret. Raises ValueError for one that can be guessed."""
    if 0 < len(secret) < MIN_SECRET_LENGTH:
        raise ValueError(f"must have at least {MIN_SECRET_LENGTH} characters, or be empty")
    return secret
