"""Reads the settings of TLS on the port of a process."""

from footfall.processes.environment import load_settings
from web.transport.settings import TlsSettings
from web.transport.transport import PLAIN, Transport


def load_transport() -> Transport:
    """Reads the settings. Exits 1 with a line if the certificate cannot be used."""
    settings = load_settings(TlsSettings)
    if settings.tls_certificate_file is None:
        return PLAIN
    return Transport(settings.certificate(), settings.tls_hsts_seconds)
