"""Origins of the web (RFC 6454) as browsers write them in the header `Origin`."""

import re

_is_origin = re.compile(r"https?://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(?::[1-9][0-9]{0,4})?").fullmatch
_usual_port = re.compile(r"http://.*:80|https://.*:443").fullmatch


def is_origin(text: str) -> bool:
    """Whether a browser would send exactly this: in lower case, and without the usual port of its scheme."""
    return _is_origin(text) is not None and _usual_port(text) is None


def is_of_host(origin: bytes, host: bytes | None) -> bool:
    """Whether a page of `origin` came from this very server, as the header `Host` names it.

    The scheme is not compared: a proxy may have taken TLS off.
    """
    return host is not None and origin.partition(b"://")[2] == host.lower()
