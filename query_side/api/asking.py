"""Who asks, and whose data."""

from web.asgi import Scope
from web.policies.passage import HEAD_KEY
from web.policies.principal import Principal


def principal_of(scope: Scope) -> Principal:
    """Who asks. Raises LookupError where no policy has learned it."""
    principal: Principal = scope[HEAD_KEY].fact(Principal)
    return principal


def tenant_of(scope: Scope) -> str:
    """Whose data the request asks for."""
    return principal_of(scope).tenant_id
