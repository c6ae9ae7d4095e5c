"""How a process is spoken to, and what that brings: a header that keeps browsers at TLS, and a probe."""

from collections.abc import Mapping, Sequence

import msgspec

from telemetry.health import Probe
from web.policies.decisions import Admit, RequestPolicy
from web.transport.certificate import ServerCertificate


class Transport(msgspec.Struct, frozen=True):
    """`certificate` None: plain HTTP. `hsts_seconds`: how long browsers use HTTPS only; 0: they are not told."""

    certificate: ServerCertificate | None = None
    hsts_seconds: int = 0

    def policies(self) -> Sequence[RequestPolicy]:
        """Returns what comes before every other policy, so that refusals have the header, too."""
        return [] if self.certificate is None or not self.hsts_seconds else [strict_transport(self.hsts_seconds)]

    def probes(self) -> Mapping[str, Probe]:
        """Returns the probe of the certificate."""
        return {} if self.certificate is None else {"certificate": self.certificate.state}


PLAIN = Transport()


def strict_transport(seconds: int) -> RequestPolicy:
    """Adds Strict-Transport-Security (RFC 6797) to every answer."""
    admitted = Admit(headers=((b"strict-transport-security", f"max-age={seconds}".encode()),))
    return lambda _head: admitted
