"""Reads the settings of TLS on the port of a process."""

from footfall.processes.environment import environment_name, exit_with, load_settings
from web.policies.hosts import is_loopback
from web.transport.settings import TlsSettings
from web.transport.transport import PLAIN, Transport

IN_THE_CLEAR = (
    "TLS_CERTIFICATE_FILE: is not set, so keys and events travel in the clear to {}. Set it; behind a proxy that ends "
    "TLS, in a network that nobody else can listen to, set HTTP_ALLOW_PLAINTEXT=true"
)


def load_transport(host: str) -> Transport:
    """Reads the settings. Exits 1 with a line if the certificate cannot be used, or production would need one.

    `host`: the address that the process listens on.
    """
    settings = load_settings(TlsSettings)
    if settings.tls_certificate_file is not None:
        return Transport(settings.certificate(), settings.tls_hsts_seconds, settings.tls_hsts_subdomains)
    if environment_name() == "production" and not settings.http_allow_plaintext and not is_loopback(host):
        exit_with([IN_THE_CLEAR.format(host)])
    return PLAIN
