"""How a process is spoken to, and what that brings: a header that keeps browsers at TLS, and a probe."""

from collections.abc import Mapping, Sequence

import msgspec

from telemetry.health import Probe
from web.policies.decisions import Admit, RequestPolicy
from web.transport.certificate import ServerCertificate


class Transport(msgspec.Struct, frozen=True):
    """`certificate` None: plain HTTP. `hsts_seconds`: how long browsers use HTTPS only; 0: they are not told.

    `hsts_subdomains`: whether for all names below the host's, too.
    """

    certificate: ServerCertificate | None = None
    hsts_seconds: int = 0
    hsts_subdomains: bool = False

    def policies(self) -> Sequence[RequestPolicy]:
        """Returns what comes before every other policy, so that refusals have the header, too."""
        if self.certificate is None or not self.hsts_seconds:
            return []
        return [strict_transport(self.hsts_seconds, subdomains=self.hsts_subdomains)]

    def probes(self) -> Mapping[str, Probe]:
        """Returns the probe of the certificate."""
        return {} if self.certificate is None else {"certificate": self.certificate.state}


PLAIN = Transport()


def strict_transport(seconds: int, *, subdomains: bool) -> RequestPolicy:
    """Adds Strict-Transport-Security (RFC 6797) to every answer."""
    value = f"max-age={seconds}" + ("; includeSubDomains" if subdomains else "")
    admitted = Admit(headers=((b"strict-transport-security", value.encode()),))
    return lambda _head: admitted
