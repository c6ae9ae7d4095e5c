"""Whose data a request asks for."""

from web.asgi import Scope
from web.policies.passage import HEAD_KEY
from web.policies.principal import Principal


def tenant_of(scope: Scope) -> str:
    """The tenant of the request's principal. Raises LookupError where no policy has learned it."""
    principal: Principal = scope[HEAD_KEY].fact(Principal)
    return principal.tenant_id
