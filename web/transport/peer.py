"""The certificate that a client came with, as a fact of its requests."""

from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from cryptography import x509

PEER_KEY = "footfall.peer_certificate"  # in the ASGI scope, if the client came with a certificate
LARGEST = 16_384  # bytes of a certificate in a header


class PeerCertificate(msgspec.Struct, frozen=True):
    """A client's certificate, which TLS_CLIENT_CA_FILE has signed: `head.facts.get(PeerCertificate)`.

    `subject`: as RFC 4514 writes it, such as `CN=billing,O=Example`. `common_name`: empty if it has none. `ends_at`:
    Unix time, seconds. `names`: its alternative names of two kinds, such as `DNS:billing.example.org` or
    `URI:spiffe://example.org/billing`.
    """

    subject: str
    common_name: str
    ends_at: float
    names: tuple[str, ...] = ()


def peer_certificate(transport: Any) -> PeerCertificate | None:
    """Returns the verified certificate of a connection's client; None if it came without, or with an unreadable one."""
    if not transport.get_extra_info("peercert"):  # empty for one that was not verified
        return None
    der: bytes | None = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    try:
        return None if der is None else described(x509.load_der_x509_certificate(der))
    except ValueError:  # what OpenSSL takes and cryptography does not
        return None


def forwarded_certificate(header: bytes) -> PeerCertificate | None:
    """The certificate in a header as nginx writes `$ssl_client_escaped_cert`; None for what is none."""
    if len(header) > LARGEST:
        return None
    try:
        return described(x509.load_pem_x509_certificate(unquote_to_bytes(header)))
    except ValueError:
        return None


def described(certificate: x509.Certificate) -> PeerCertificate:
    """Raises ValueError for a certificate that has a name of no valid form."""
    common_names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return PeerCertificate(
        certificate.subject.rfc4514_string(),
        str(common_names[-1].value) if common_names else "",
        certificate.not_valid_after_utc.timestamp(),
        tuple(names_of(certificate)),
    )


def names_of(certificate: x509.Certificate) -> list[str]:
    """Alternative names, each with its kind."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    dns, uris = found.get_values_for_type(x509.DNSName), found.get_values_for_type(x509.UniformResourceIdentifier)
    return [*(f"DNS:{name}" for name in dns), *(f"URI:{uri}" for uri in uris)]
