"""The authenticator of access tokens: one of the list in `web.policies.identity`."""

import time
from collections.abc import Callable

from identity.tokens.outcomes import KeysAway, NeedsKeys, TokenFault
from identity.tokens.tokens import Tokens
from telemetry.metrics import TOKENS_REFUSED
from web.policies.decisions import Admit, NeedsIO, Refuse
from web.policies.identity import (
    NOT_MINE,
    REALM,
    Authenticated,
    Presented,
    RefusalReason,
    Settled,
    refuse_credentials,
)
from web.policies.principal import Principal
from web.policies.request_head import RequestHead

ISSUER_UNAVAILABLE = (
    "The issuer of tokens does not answer, so this token cannot be checked now. Nothing was done; try again later."
)


def refusal_of(fault: TokenFault) -> Refuse:
    """401 with the challenge of RFC 6750, 3."""
    challenge = b'%b, error="invalid_token", error_description="%b"' % (REALM, fault.value.encode())
    return Refuse(401, fault.value, ((b"www-authenticate", challenge),))


REASONS: dict[TokenFault, RefusalReason] = {TokenFault.EXPIRED: "expired", TokenFault.MALFORMED: "malformed"}
REFUSALS = {fault: refusal_of(fault) for fault in TokenFault}


class TokenAuthenticator:
    """Knows who a token in `Authorization: Bearer` is."""

    def __init__(self, tokens: Tokens, clock: Callable[[], float] = time.time) -> None:
        """`clock`: Unix time, seconds."""
        self._tokens = tokens
        self._clock = clock

    def __call__(self, head: RequestHead, presented: Presented) -> Authenticated:
        """See `Authenticator`. What has two dots is a token; keys have none."""
        token = presented.token
        if token is None:
            return NOT_MINE
        now = self._clock()
        known = self._tokens.remembered(token, now)
        if known is not None:
            return Settled(known.principal, known.until - now)
        if token.count(b".") != 2:
            return NOT_MINE
        found = self._tokens.principal(token, now)
        if isinstance(found, Principal):
            return found
        if isinstance(found, NeedsKeys):
            return NeedsIO(lambda: self._once_asked(token))
        return _refused(found)

    async def _once_asked(self, token: bytes) -> Admit | Refuse:
        found = await self._tokens.principal_once_asked(token, self._clock())
        return Admit(found) if isinstance(found, Principal) else _refused(found)


def _refused(found: TokenFault | KeysAway) -> Refuse:
    if isinstance(found, KeysAway):
        return refuse_credentials(
            "not_ready", Refuse(503, ISSUER_UNAVAILABLE, ((b"retry-after", b"%d" % found.retry_after),))
        )
    TOKENS_REFUSED.labels(reason=found.name.lower()).inc()
    return refuse_credentials(REASONS.get(found, "unknown"), REFUSALS[found])
