"""The certificate that a client came with, as a fact of its requests."""

from typing import Any

import msgspec

PEER_KEY = "footfall.peer_certificate"  # in the ASGI scope, if the client came with a certificate


class PeerCertificate(msgspec.Struct, frozen=True):
    """A client's certificate, which TLS_CLIENT_CA_FILE has signed: `head.facts.get(PeerCertificate)`.

    `subject`: as RFC 4514 writes it, such as `CN=billing,O=Example`. `common_name`: empty if it has none. `names`: its
    alternative names, each with its kind, such as `DNS:billing.example.org` or `URI:spiffe://example.org/billing`.
    """

    subject: str
    common_name: str
    names: tuple[str, ...] = ()


SHORT = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "domainComponent": "DC",
    "userId": "UID",
}
ESCAPED = str.maketrans({character: f"\\{character}" for character in '\\,+"<>;='})


def peer_certificate(transport: Any) -> PeerCertificate | None:
    """Returns the verified certificate of a connection's client; None if it came without."""
    found = transport.get_extra_info("peercert")
    if not found:
        return None
    parts = [(SHORT.get(name, name), value) for relative in found.get("subject", ()) for name, value in relative]
    # RFC 4514 begins with the most specific part, a certificate with the least specific one.
    subject = ",".join(f"{name}={value.translate(ESCAPED)}" for name, value in reversed(parts))
    common_name = next((value for name, value in reversed(parts) if name == "CN"), "")
    names = tuple(f"{kind}:{value}" for kind, value in found.get("subjectAltName", ()))
    return PeerCertificate(subject, common_name, names)
