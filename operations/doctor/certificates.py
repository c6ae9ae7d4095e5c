"""Which certificates are near their end: those in files, the processes' own included, and those that servers show."""

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import msgspec
from aiokafka.conn import collect_hosts
from cryptography import x509

from brokers.diagnosis import address_of
from brokers.settings import TLS, KafkaSettings
from operations.doctor.findings import Finding, well_unless

SOON = timedelta(days=14)
PATIENCE = 3.0  # seconds for one handshake
LARGEST = 1_048_576  # bytes of a file
SERVED = "TLS_CERTIFICATE_FILE"


async def certificate_findings(settings: KafkaSettings, environment: Mapping[str, str]) -> list[Finding]:
    """Looks at the files that the settings name, and at the brokers' certificates; nothing is sent to the brokers.

    `environment`: where it is that of a process, it names the certificate that the process serves with.
    """
    served = environment.get(SERVED)
    files = (settings.kafka_ssl_ca_file, settings.kafka_ssl_certificate_file, Path(served) if served else None)
    ends = in_files([path for path in files if path is not None])
    if settings.kafka_security_protocol in TLS:
        hosts = collect_hosts(settings.kafka_bootstrap_servers)
        shown = await asyncio.gather(*(_shown_at(host, port) for host, port, _ in hosts))
        brokers = [f"the broker {address_of(host, port)}" for host, port, _ in hosts]
        ends |= {broker: end for broker, end in zip(brokers, shown, strict=True) if end}
    return judged(ends, datetime.now(UTC))


def in_files(paths: Iterable[Path]) -> dict[str, datetime]:
    """The end of each file's certificate, the first to end of several. Settings refuse a file without any."""
    ends = {}
    for path in paths:
        with suppress(OSError, ValueError):
            with path.open("rb") as file:
                certificates = x509.load_pem_x509_certificates(file.read(LARGEST))
            ends[f"the file {path}"] = min(each.not_valid_after_utc for each in certificates)
    return ends


def judged(ends: Mapping[str, datetime], now: datetime) -> list[Finding]:
    """A finding for each certificate that ends soon, or has ended. `ends`: by where it is."""
    found = []
    for where, end in sorted(ends.items()):
        remedy = "Renew it and replace the file; processes read it again without a restart."
        if end <= now:
            found.append(Finding("certificates", "problem", f"That of {where} expired at {_told(end)}.", remedy))
        elif end - now < SOON:
            says = f"That of {where} ends at {_told(end)}, in {(end - now).days} days."
            found.append(Finding("certificates", "warning", says, remedy))
    return well_unless("certificates", found, f"{len(ends)} were looked at; none ends within {SOON.days} days.")


async def of_postgresql(connection: asyncpg.Connection) -> list[Finding]:
    """The certificate that PostgreSQL shows to this connection."""
    transport = getattr(connection, "_transport", None)
    secured = transport.get_extra_info("ssl_object") if transport is not None else None
    shown = secured.getpeercert(binary_form=True) if secured is not None else None
    if shown is None:
        return [Finding("PostgreSQL's certificate", "well", "This connection uses none.")]
    ends = {"PostgreSQL": x509.load_der_x509_certificate(shown).not_valid_after_utc}
    found = judged(ends, datetime.now(UTC))
    return [msgspec.structs.replace(each, check="PostgreSQL's certificate") for each in found]


async def _shown_at(host: str, port: int) -> datetime | None:
    """When the certificate that a server shows ends; None: it shows none. It is looked at, and trusted for nothing."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with suppress(OSError, ssl.SSLError, TimeoutError):
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
        try:
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return x509.load_der_x509_certificate(shown).not_valid_after_utc if shown else None
        finally:
            writer.transport.abort()
    return None


def _told(end: datetime) -> str:
    return f"{end:%Y-%m-%d %H:%M} UTC"
