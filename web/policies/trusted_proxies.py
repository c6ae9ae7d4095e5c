"""The policy that finds out who asks behind proxies: only what proxies of ours say of it is believed."""

import ipaddress
import re
from collections.abc import Collection

from web.policies.decisions import ADMIT, Decision
from web.policies.hosts import address_in
from web.policies.remembered import Remembered
from web.policies.request_head import RequestHead
from web.transport.peer import PeerCertificate, forwarded_certificate

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_with_port = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):[0-9]{1,5}").fullmatch


class TrustedProxies:
    """The policy: behind a trusted proxy, the client is the last address that no trusted proxy has.

    Each proxy adds the address of its peer at the end of `X-Forwarded-For`. What stands before the first one that is
    not ours, the client may have written itself. A proxy's own certificate is not that of its clients; where a header
    is named, the proxy says in it which certificate it has verified.
    """

    def __init__(self, networks: Collection[Network], certificate_header: str = "") -> None:
        """`certificate_header`: empty: no proxy says whose certificate it saw."""
        self._networks = tuple(networks)
        self._header = certificate_header.lower().encode()
        self._certificates: Remembered[bytes, PeerCertificate] = Remembered(1_000)

    def __call__(self, head: RequestHead) -> Decision:
        """See `RequestPolicy`."""
        client = head.client
        if client is not None and self._is_ours(client[0]):
            forwarded = [value for name, value in head.headers if name == b"x-forwarded-for"]
            found = self._client_of(b",".join(forwarded).decode("latin-1"))
            if found is not None:
                head.client = (found, 0)
            self._set_certificate(head)
        return ADMIT

    def _set_certificate(self, head: RequestHead) -> None:
        head.facts.pop(PeerCertificate, None)
        if self._header:
            shown = [value for name, value in head.headers if name == self._header]
            found = self._certificate(shown[0]) if len(shown) == 1 else None
            if found is not None:
                head.facts[PeerCertificate] = found

    def _certificate(self, header: bytes) -> PeerCertificate | None:
        found = self._certificates.get(header) or forwarded_certificate(header)
        if found is not None:
            self._certificates.put(header, found)
        return found

    def _client_of(self, forwarded: str) -> str | None:
        """The client's address; None if a trusted proxy says nothing that can be read."""
        found = None
        for part in reversed(forwarded.split(",")):
            address = forwarded_address(part.strip())
            if address is None:
                break
            found = address
            if not self._is_ours(found):
                break
        return found

    def _is_ours(self, address: str) -> bool:
        try:
            parsed = unmapped(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


def forwarded_address(text: str) -> str | None:
    """The address in one element of `X-Forwarded-For`; None for what is none.

    Some proxies add the port of the client (Azure's Application Gateway), and those that listen on `::` for both may
    write an IPv4 address in the form of IPv6 (RFC 4291, 2.5.5.2): it is the same client either way.
    """
    found = _with_port(text)
    address = address_in(found[1] or found[2] if found else text.strip("[]"))
    return None if address is None else str(unmapped(address))


def unmapped_network(text: str) -> Network:
    """The network itself, of IPv4 also where it is written in the form of IPv6. Raises ValueError for none."""
    parsed = ipaddress.ip_network(text)
    first = parsed.network_address.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Network) else None
    return parsed if first is None else ipaddress.ip_network(f"{first}/{max(parsed.prefixlen - 96, 0)}")


def unmapped(address: str) -> Address:
    """The address itself, of IPv4 also where it is written in the form of IPv6. Raises ValueError for none."""
    parsed = ipaddress.ip_address(address)
    return parsed if isinstance(parsed, ipaddress.IPv4Address) else parsed.ipv4_mapped or parsed
