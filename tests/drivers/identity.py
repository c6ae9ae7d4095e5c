"""The identity policies of applications under test."""

from contracts.event import DEFAULT_TENANT
from web.policies.decisions import Admit, Decision
from web.policies.identity import NOBODY, UNKNOWN_KIND
from web.policies.principal import AccessScope, OpenDoor, Principal
from web.policies.request_head import RequestHead

OPEN = OpenDoor(DEFAULT_TENANT)
ANYBODY = Principal(DEFAULT_TENANT, "anonymous", frozenset(AccessScope))

TENANT_HEADER = b"test-tenant"


def of_tenant(tenant_id: str, key_space: str = "") -> Principal:
    """Whoever may do everything for one tenant."""
    return Principal(tenant_id, "test", frozenset(AccessScope), key_space)


def believed(head: RequestHead) -> Decision:
    """A door that believes what a request says of its tenant, `tenant` or `tenant/key space`; without, the default."""
    told = dict(head.headers).get(TENANT_HEADER, DEFAULT_TENANT.encode()).decode()
    tenant_id, _, key_space = told.partition("/")
    return Admit(of_tenant(tenant_id, key_space))


OPERATOR = Principal(DEFAULT_TENANT, "key:1", frozenset(AccessScope))


class OneKey:
    """An identity policy that knows one key, `good`, until it is revoked."""

    revoked = False

    def __call__(self, head: RequestHead) -> Decision:
        shown = dict(head.headers).get(b"authorization")
        if shown is None:
            return Admit(NOBODY)
        return Admit(OPERATOR) if shown == b"Bearer good" and not self.revoked else UNKNOWN_KIND
