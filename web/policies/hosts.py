"""Names under which a server on the loopback interface may be asked: the defence against DNS rebinding.

A page of `evil.example` lets that name point to 127.0.0.1 and then asks as if it were of the same origin. The header
`Host` still says `evil.example`. An address cannot be pointed elsewhere, and a name without a dot is none that
a stranger can own in the public DNS: both are accepted, as development servers do.
"""

import ipaddress
import re
from collections.abc import Collection

# RFC 9110, 7.2, without what RFC 3986 also calls a host and no client sends: percent-encoding, IPvFuture, zones.
_authority = re.compile(rb"(\[[0-9a-f:.]{2,45}\]|[a-z0-9_!$&'()*+,;=~.-]{1,255}|)(?::([0-9]{0,5}))?").fullmatch
_is_name = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*").fullmatch
MOST_PORT = 65_535


def is_loopback(address: str) -> bool:
    """Whether a server that listens there is reached from this machine only."""
    found = address_in(address)
    return address == "localhost" or (found is not None and ipaddress.ip_address(found).is_loopback)


def host_in(value: bytes) -> str | None:
    """The host of the header `Host`, in lower case, of IPv6 in brackets; None for what no such header may be.

    An empty one is valid: a target without a host has it (RFC 9112, 3.2). One dot at the end is the root of the DNS and
    names the same host.
    """
    found = _authority(value.lower())
    if found is None or int(found[2] or 0) > MOST_PORT or (not found[1] and found[2] is not None):
        return None
    host: str = found[1].decode()
    if host.startswith("["):
        return host if address_in(host[1:-1]) else None
    return host.removesuffix(".") if host != "." else None


def is_accepted(host: str, allowed: Collection[str]) -> bool:
    """Whether a host names this server.

    Args:
        host: As `host_in` gives it.
        allowed: Further names in lower case; one that begins with a dot stands for all names that end with it.
    """
    if not host or host.startswith("["):  # a browser's is never empty
        return True
    if not _is_name(host):
        return False
    if "." not in host or host in allowed or host.endswith(".localhost") or address_in(host):
        return True
    return any(each.startswith(".") and host.endswith(each) for each in allowed)


def is_host_name(text: str) -> bool:
    """Whether ALLOWED_HOSTS may list this: a name or an IPv4 address, with a dot before it for all names below it."""
    return _is_name(text.removeprefix(".")) is not None


def address_in(text: str) -> str | None:
    """The IP address in its usual spelling; None for what is none. A zone (`fe80::1%eth0`) is of one machine only."""
    try:
        return None if "%" in text else str(ipaddress.ip_address(text))
    except ValueError:
        return None
