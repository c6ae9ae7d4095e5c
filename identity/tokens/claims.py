"""What the claims of a token must say (RFC 9068, 2.2 and 4), and the principal that they name."""

import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from identity.tokens.outcomes import TokenFault
from web.policies.principal import AccessScope, Principal

MAX_SUBJECT_LENGTH = 255  # characters; OpenID Connect Core 1.0, 2
MAX_AUDIENCES = 16
SCOPES = {scope.value: scope for scope in AccessScope}
STRONG = frozenset({AccessScope.OPERATOR, AccessScope.PRIVACY})  # what may ask for a stronger sign-in
_is_tenant = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch  # as `contracts.event` has it


class ClaimRules(msgspec.Struct, frozen=True):
    """What this service accepts."""

    issuer: str
    audience: str
    leeway: float  # seconds that two clocks may differ
    max_lifetime: float  # seconds from `iat` to `exp`
    tenant: str  # of every token; empty: as the claim says
    tenant_claim: str
    subject_claim: str
    scope_claims: Sequence[str]  # the first one that a token has is read
    strong_acr: Sequence[str] = ()  # how a user must have signed in for the scopes `STRONG`; empty: in any way


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """Who the token is, and the Unix time from which it is nobody."""

    principal: Principal
    until: float


def read_claims(claims: dict[str, Any], rules: ClaimRules, now: float) -> Accepted | TokenFault:
    """The principal of claims whose signature is good. `now`: Unix time, seconds."""
    if claims.get("iss") != rules.issuer:
        return TokenFault.ISSUER
    if not _is_for(claims.get("aud"), rules.audience):
        return TokenFault.AUDIENCE
    until = _valid_until(claims, rules, now)
    if isinstance(until, TokenFault):
        return until
    principal = _principal(claims, rules)
    return principal if isinstance(principal, TokenFault) else Accepted(principal, until)


def _is_for(audience: object, wanted: str) -> bool:
    audiences = audience if isinstance(audience, list) else [audience]
    return len(audiences) <= MAX_AUDIENCES and all(isinstance(name, str) for name in audiences) and wanted in audiences


def _valid_until(claims: dict[str, Any], rules: ClaimRules, now: float) -> float | TokenFault:
    expires, issued, begins = _time(claims.get("exp")), _time(claims.get("iat")), _time(claims.get("nbf", 0))
    if expires is None or issued is None or begins is None:
        return TokenFault.TIMES
    if not 0 < expires - issued <= rules.max_lifetime:
        return TokenFault.TIMES
    if now >= expires + rules.leeway:
        return TokenFault.EXPIRED
    if max(issued, begins) > now + rules.leeway:
        return TokenFault.NOT_YET
    return expires + rules.leeway


def _time(value: object) -> float | None:
    """A NumericDate (RFC 7519, 2)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 53:
        return None
    return float(value) if math.isfinite(value) else None


def _principal(claims: dict[str, Any], rules: ClaimRules) -> Principal | TokenFault:
    subject, tenant = claims.get(rules.subject_claim), rules.tenant or claims.get(rules.tenant_claim)
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_LENGTH or not subject.isprintable():
        return TokenFault.SUBJECT
    if not isinstance(tenant, str) or not _is_tenant(tenant):
        return TokenFault.TENANT
    scopes = _scopes(next((claims[name] for name in rules.scope_claims if name in claims), ""))
    if isinstance(scopes, TokenFault):
        return scopes
    if rules.strong_acr and claims.get("acr") not in rules.strong_acr:
        scopes -= STRONG
    return Principal(tenant, f"token:{rules.issuer}/{subject}", scopes)


def _scopes(granted: object) -> frozenset[AccessScope] | TokenFault:
    """Of `events:write events:read` (RFC 9068, 2.2.3), or of a list. What is no scope of ours grants nothing."""
    names = granted.split(" ") if isinstance(granted, str) else granted
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return TokenFault.SCOPES
    return frozenset(SCOPES[name] for name in names if name in SCOPES)
