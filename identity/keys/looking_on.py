"""While Kafka is away for long, an operator may still look at how the service is, with a key that was good before.

Nobody hears of a revocation then. So such a key opens only the paths that say how the service is: no event, no user,
nothing that changes anything. A process that has not read the register since its start knows nobody.
"""

from collections.abc import Collection

from identity.keys.authenticator import NOT_READY, UNKNOWN, KeyAuthenticator
from identity.keys.reader import RegisterReader
from identity.keys.register import KnownKey
from identity.keys.uses import KeyUses
from web.policies.identity import Authenticated, Presented
from web.policies.principal import AccessScope, KnownBefore, Principal
from web.policies.request_head import RequestHead

LONGEST = 86_400.0  # seconds since Kafka was heard last
LOOKS = frozenset({AccessScope.EVENTS_READ})


class OperatorsLookOn:
    """An `Authenticator`: that of keys, and what it knew last where it cannot check them."""

    def __init__(self, keys: KeyAuthenticator, reader: RegisterReader, paths: Collection[str]) -> None:
        """`paths`: those that say how the service is, and nothing of its users."""
        self._keys, self._reader, self._paths = keys, reader, paths
        self._before = KeyAuthenticator(lambda: reader.last_known(LONGEST), KeyUses())

    def __call__(self, head: RequestHead, presented: Presented) -> Authenticated:
        """See `Authenticator`. A key that was not known may have been made since: it waits, as all do elsewhere."""
        answer = self._keys(head, presented)
        if answer is not NOT_READY or head.path not in self._paths:
            return answer
        before = self._before.known(head, presented)
        if not isinstance(before, KnownKey):
            return answer if before is UNKNOWN else before
        principal = before.principal
        if AccessScope.OPERATOR not in principal.scopes:
            return answer
        head.facts[KnownBefore] = KnownBefore(self._reader.age())
        return Principal(principal.tenant_id, principal.subject, LOOKS, principal.key_space)
