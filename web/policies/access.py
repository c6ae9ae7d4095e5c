"""The policy behind identity: whether the principal may ask for this path. What was not declared is closed.

Whoever may is refused a target that names nothing clearly.
"""

from telemetry.metrics import ACCESS_REFUSED
from telemetry.undone import UNDONE, Undone
from web.access import ACCESS, PUBLIC, needed_for
from web.policies.decisions import ADMIT, Decision, Refuse
from web.policies.identity import NOBODY, unauthenticated
from web.policies.principal import AccessScope, Principal
from web.policies.request_head import RequestHead, is_soundly_escaped

EVERY_SCOPE = frozenset(AccessScope)
NO_CREDENTIALS = unauthenticated("Credentials are needed here: send `Authorization: Bearer <key>`.")
NOT_THERE = Refuse(404, "Not found")
BROKEN_ESCAPE = Refuse(
    400, "A percent sign in the address begins no percent-encoding. The sign itself is written `%25`."
)


def forbidden(scope: AccessScope) -> Refuse:
    """403 for a principal without this scope (RFC 6750, 3.1)."""
    challenge = f'Bearer realm="footfall", error="insufficient_scope", scope="{scope}"'
    return Refuse(
        403,
        f"This needs the scope {scope}, which these credentials lack.",
        ((b"www-authenticate", challenge.encode()),),
    )


FORBIDDEN = {scope: forbidden(scope) for scope in AccessScope}


def check_access(head: RequestHead) -> Decision:
    """See `RequestPolicy`. Needs the fact `Principal`."""
    needed = ACCESS.get(head.path) or needed_for(head.path)
    principal: Principal = head.facts[Principal]
    if needed is PUBLIC or needed in principal.scopes:
        return ADMIT if is_soundly_escaped(head) else BROKEN_ESCAPE
    if needed is AccessScope.PRIVACY and head.method == "DELETE" and principal is not NOBODY:
        note_refused_erasure(principal)
    return refusal(principal, needed)


def note_refused_erasure(principal: Principal) -> None:
    """For the audit log: who is known and may not erase has tried to."""
    UNDONE.note(Undone(principal.subject, principal.tenant_id, "privacy erase", "refused", "scope privacy is missing"))


def refusal(principal: Principal, needed: AccessScope | None) -> Decision:
    """For a principal that lacks the scope. `needed`: None for a path that nobody declared: that takes every scope."""
    if principal is NOBODY:
        ACCESS_REFUSED.labels(reason="no_credentials").inc()
        return NO_CREDENTIALS
    if needed is None:
        return ADMIT if principal.scopes == EVERY_SCOPE else NOT_THERE
    ACCESS_REFUSED.labels(reason="scope").inc()
    return FORBIDDEN[needed]
