"""Names under which a server on the loopback interface may be asked: the defence against DNS rebinding.

A page of `evil.example` lets that name point to 127.0.0.1 and then asks as if it were of the same origin. The header
`Host` still says `evil.example`. An address cannot be pointed elsewhere, and a name without a dot is none that
a stranger can own in the public DNS: both are accepted, as development servers do.
"""

import ipaddress
import re
from collections.abc import Collection

_without_port = re.compile(rb"(\[[^\]]*\]|[^:]*)(?::[0-9]*)?").fullmatch


def is_loopback(address: str) -> bool:
    """Whether a server that listens there is reached from this machine only."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def is_accepted(host: bytes, allowed: Collection[str]) -> bool:
    """Whether the header `Host` names this server.

    Args:
        host: The value of the header, with a port or without.
        allowed: Further names in lower case; one that begins with a dot stands for all names that end with it.
    """
    if not host:  # a target without a host has an empty one (RFC 9112, 3.2); a browser's never is
        return True
    found = _without_port(host.lower())
    name = "" if found is None else found[1].decode("latin-1")
    if not name:
        return False
    if "." not in name and ":" not in name:
        return True
    if name in allowed or name.endswith(".localhost") or is_address(name):
        return True
    return any(each.startswith(".") and name.endswith(each) for each in allowed)


def is_address(name: str) -> bool:
    """Whether this is an IP address, of version 6 in brackets."""
    try:
        ipaddress.ip_address(name[1:-1] if name.startswith("[") else name)
    except ValueError:
        return False
    return True
