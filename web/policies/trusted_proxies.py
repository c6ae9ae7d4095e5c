"""The policy that finds out who asks behind proxies: only what proxies of ours say of it is believed."""

import ipaddress
from collections.abc import Collection

from web.policies.decisions import ADMIT, Decision
from web.policies.hosts import address_in
from web.policies.request_head import RequestHead

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class TrustedProxies:
    """The policy: behind a trusted proxy, the client is the last address that no trusted proxy has.

    Each proxy adds the address of its peer at the end of `X-Forwarded-For`. What stands before the first one that is
    not ours, the client may have written itself.
    """

    def __init__(self, networks: Collection[Network]) -> None:
        self._networks = tuple(networks)

    def __call__(self, head: RequestHead) -> Decision:
        """See `RequestPolicy`."""
        client = head.client
        if client is not None and self._is_ours(client[0]):
            forwarded = [value for name, value in head.headers if name == b"x-forwarded-for"]
            found = self._client_of(b",".join(forwarded).decode("latin-1"))
            if found is not None:
                head.client = (found, 0)
        return ADMIT

    def _client_of(self, forwarded: str) -> str | None:
        """The client's address; None if a trusted proxy says nothing that can be read."""
        found = None
        for part in reversed(forwarded.split(",")):
            address = address_in(part.strip().strip("[]"))
            if address is None:
                break
            found = address
            if not self._is_ours(found):
                break
        return found

    def _is_ours(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)
