"""Access tokens: from their bytes to a principal."""

import time
from collections.abc import Callable, Collection
from math import ceil

from identity.tokens.claims import Accepted, ClaimRules, read_claims
from identity.tokens.key_set import KeySet, read_key_set
from identity.tokens.known_keys import KnownKeys
from identity.tokens.outcomes import NEEDS_KEYS, KeysAway, NeedsKeys, TokenFault
from identity.tokens.provider import Provider
from identity.tokens.settings import TokenSettings, listed
from identity.tokens.strict_json import decode_object
from identity.tokens.token_format import SignedToken, take_apart
from web.policies.principal import Principal
from web.policies.remembered import Remembered


class Tokens:
    """Checks access tokens of one issuer for one audience."""

    def __init__(
        self,
        keys: KnownKeys,
        rules: ClaimRules,
        algorithms: Collection[str],
        *,
        max_bytes: int,
        remembered: int,
    ) -> None:
        """See `tokens_of`."""
        self.keys = keys
        self._rules = rules
        self._algorithms = frozenset(algorithms)
        self._max_bytes = max_bytes
        # The token itself is the key: SHA-256 of it would cost ten times the look-up. Python's hash of bytes is keyed,
        # and what is equal is compared byte by byte.
        self._accepted: Remembered[bytes, Accepted] = Remembered(remembered)
        self._accepted_with: object = self  # the keys that all of them were checked with

    def principal(self, token: bytes, now: float) -> Principal | TokenFault | NeedsKeys | KeysAway:
        """Who the token is, without I/O. `now`: Unix time, seconds.

        NeedsKeys: call `principal_once_asked`, which may wait for the issuer.
        """
        known = self.remembered(token, now)
        return self._checked(token, now) if known is None else known.principal

    def remembered(self, token: bytes, now: float) -> Accepted | None:
        """Who the token is, if it was accepted before and still would be; None: it has to be checked."""
        known = self._accepted.get(token)
        if known is not None and now < known.until and self.keys.current() is self._accepted_with:
            return known
        return None

    async def principal_once_asked(self, token: bytes, now: float) -> Principal | TokenFault | KeysAway:
        """As `principal`, after the issuer was asked for its keys, if it may be asked now."""
        await self.keys.ask()
        found = self._checked(token, now)
        return self._away() if isinstance(found, NeedsKeys) else found

    def _checked(self, token: bytes, now: float) -> Principal | TokenFault | NeedsKeys | KeysAway:
        parts = take_apart(token, self._max_bytes, self._algorithms)
        if isinstance(parts, TokenFault):
            return parts
        keys = self.keys.current()
        if keys is None:
            return NEEDS_KEYS if self.keys.may_ask() else self._away()
        if not keys.has(parts.kid, parts.algorithm):
            return self._of_unknown_key()
        accepted = self._verified(parts, keys, now)
        if isinstance(accepted, TokenFault):
            return accepted
        self._remember(token, accepted, keys)
        return accepted.principal

    def _verified(self, parts: SignedToken, keys: KeySet, now: float) -> Accepted | TokenFault:
        if not keys.is_signed(parts.kid, parts.algorithm, parts.signed, parts.signature):
            return TokenFault.SIGNATURE
        try:
            claims = decode_object(parts.payload)
        except ValueError:
            return TokenFault.MALFORMED
        return read_claims(claims, self._rules, now)

    def _of_unknown_key(self) -> TokenFault | NeedsKeys | KeysAway:
        if self.keys.may_ask():
            return NEEDS_KEYS
        return self._away() if self.keys.is_away() else TokenFault.KEY

    def _away(self) -> KeysAway:
        return KeysAway(max(1, ceil(self.keys.wait_to_ask())))

    def _remember(self, token: bytes, accepted: Accepted, keys: KeySet) -> None:
        if keys is not self._accepted_with:
            self._accepted.clear()
            self._accepted_with = keys
        self._accepted.put(token, accepted)


def tokens_of(settings: TokenSettings, clock: Callable[[], float] = time.monotonic) -> Tokens:
    """Checks tokens as the settings say; `oidc_issuer` is set. `clock`: seconds that never go back."""
    algorithms = settings.algorithms()
    provider = Provider(settings.oidc_issuer, settings.oidc_jwks_url, settings.oidc_ca_file)

    async def fetch() -> KeySet:
        return read_key_set(await provider.key_set(), algorithms, settings.oidc_rsa_least_bits)

    rules = ClaimRules(
        issuer=settings.oidc_issuer,
        audience=settings.oidc_audience,
        leeway=settings.oidc_leeway_ms / 1000,
        max_lifetime=settings.oidc_max_lifetime_ms / 1000,
        tenant=settings.oidc_tenant,
        tenant_claim=settings.oidc_tenant_claim,
        subject_claim=settings.oidc_subject_claim,
        scope_claims=listed(settings.oidc_scope_claims),
        strong_acr=listed(settings.oidc_strong_acr),
    )
    return Tokens(
        KnownKeys(fetch, clock),
        rules,
        algorithms,
        max_bytes=settings.oidc_max_token_bytes,
        remembered=settings.oidc_remembered_tokens,
    )
