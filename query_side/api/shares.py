"""A principal's share of exports, streams and fresh reads, taken where their places are."""

from collections.abc import Iterator
from contextlib import contextmanager

from query_side.api.responses import RefusedError
from web.asgi import Scope
from web.policies.limits.shares import Share
from web.policies.passage import HEAD_KEY
from web.policies.principal import Principal


@contextmanager
def held(share: Share, principal: Principal) -> Iterator[None]:
    """Holds a place of the share while the body runs. Raises RefusedError (429)."""
    if not share.take(principal):
        refusal = share.refusal
        raise RefusedError(refusal.status, refusal.error, *refusal.headers)
    try:
        yield
    finally:
        share.give_back(principal)


def principal_of(scope: Scope) -> Principal:
    """Who asks."""
    principal: Principal = scope[HEAD_KEY].fact(Principal)
    return principal
