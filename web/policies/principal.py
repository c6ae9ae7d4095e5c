"""Who asks: the fact that the first policy of every process learns of every request."""

from enum import StrEnum

import msgspec

from web.policies.decisions import ADMIT, Decision
from web.policies.request_head import RequestHead

ANONYMOUS = "anonymous"  # the subject of whoever shows no credentials
DEFAULT_TENANT = "default"  # whose bytes are those of the original Express API; the tenant of the open door


class AccessScope(StrEnum):
    """What a principal may do. Every path needs exactly one, or says that it is public."""

    EVENTS_WRITE = "events:write"
    EVENTS_READ = "events:read"
    EXPORT = "export"
    PRIVACY = "privacy"
    OPERATOR = "operator"
    METRICS = "metrics"


class Principal(msgspec.Struct, frozen=True, gc=False):
    """Who asks, for which tenant, and what for. There is no default tenant here: whoever makes one says which."""

    tenant_id: str
    subject: str  # for audit and limits: "key:<id>", "token:<issuer>/<subject>", "anonymous"; never a secret
    scopes: frozenset[AccessScope]
    key_space: str = ""  # whose idempotency keys it shares; empty: those of its tenant's servers

    def is_public(self) -> bool:
        """Whether it showed a public key, which every visitor of a page can copy: only those have their own space."""
        return self.key_space != ""


class KnownBefore(msgspec.Struct, frozen=True, gc=False):
    """A fact: whoever asks was known this many seconds ago, and nobody can say now whether that still holds."""

    seconds: float


class OpenDoor:
    """The identity policy of an open service: everybody may do everything, as one tenant."""

    def __init__(self, tenant_id: str) -> None:
        self._principal = Principal(tenant_id, ANONYMOUS, frozenset(AccessScope))

    def __call__(self, head: RequestHead) -> Decision:
        """See `RequestPolicy`."""
        head.facts[Principal] = self._principal  # as `Admit` has it done, at half the price
        return ADMIT
