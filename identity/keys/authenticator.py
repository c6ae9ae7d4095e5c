"""The authenticator of API keys: one of the list in `web.policies.identity`."""

import time
from collections.abc import Callable

from identity.keys.key_text import KEY_LENGTH, PREFIX, digest_of
from identity.keys.register import KnownKey, Register
from identity.keys.uses import KeyUses
from web.policies.decisions import Refuse
from web.policies.identity import (
    INVALID_TOKEN,
    NOT_MINE,
    Authenticated,
    NotMine,
    Presented,
    Settled,
    refuse_credentials,
    unauthenticated,
)
from web.policies.remembered import Remembered
from web.policies.request_head import RequestHead

REMEMBERED = 4_096  # keys whose digest need not be computed again: what they stand for is asked for each time
UNKNOWN = unauthenticated("This key is not known.", INVALID_TOKEN)
REVOKED = unauthenticated("This key was revoked.", INVALID_TOKEN)
EXPIRED = unauthenticated("This key has expired.", INVALID_TOKEN)
NOT_READY = Refuse(
    503, "This process cannot check keys yet. Nothing was done; try again shortly.", ((b"retry-after", b"2"),)
)
WRONG_ORIGIN = Refuse(403, "This key is not for this origin: a public key lists the origins that may send with it.")


class KeyAuthenticator:
    """Knows whose a key is."""

    def __init__(
        self, register: Callable[[], Register | None], uses: KeyUses, clock: Callable[[], float] = time.time
    ) -> None:
        """The authenticator of one process.

        Args:
            register: What the process knows; None while that may not be relied on.
            uses: Notes when a key was used last.
            clock: Unix time, seconds.
        """
        self._register = register
        self._last_uses = uses.last
        self._digests: Remembered[bytes, bytes] = Remembered(REMEMBERED)  # only of keys that the register has
        self._clock = clock

    def __call__(self, head: RequestHead, presented: Presented) -> Authenticated:
        """See `Authenticator`."""
        known = self.known(head, presented)
        if not isinstance(known, KnownKey):
            return known
        if known.origins is not None:  # another request with this key may be of another origin
            return known.principal
        return Settled(known.principal, known.valid_until - self._clock())

    def known(self, head: RequestHead, presented: Presented) -> KnownKey | Refuse | NotMine:
        """The key that is shown, if it is good for this request."""
        token = presented.token
        if token is None or token[:2] != PREFIX or len(token) != KEY_LENGTH:
            return NOT_MINE
        register = self._register()
        if register is None:
            return refuse_credentials("not_ready", NOT_READY)
        digest = self._digests.get(token)
        known, now = register.find(digest or digest_of(token)), self._clock()
        if known is None:
            return refuse_credentials("unknown", UNKNOWN)
        if digest is None:
            self._digests.put(token, digest_of(token))
        if known.valid_until <= now:
            return (
                refuse_credentials("revoked", REVOKED) if known.is_revoked else refuse_credentials("expired", EXPIRED)
            )
        if known.origins is not None and origin_of(head) not in known.origins:
            return refuse_credentials("origin", WRONG_ORIGIN)
        self._last_uses[known.key_id] = now
        return known


def origin_of(head: RequestHead) -> bytes | None:
    """The header `Origin`, which a browser sends with every POST; None: none, or more than one."""
    found = [value for name, value in head.headers if name == b"origin"]
    return found[0] if len(found) == 1 else None
