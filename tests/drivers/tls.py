"""A server of HTTPS in this process, its certificates, and clients of it."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import wait_until
from web.middleware import Middleware
from web.server import server_of
from web.transport.transport import Transport


def write(authority: trustme.CA, path: Path, name: str, **fields: Any) -> Path:
    issued = authority.issue_cert("localhost", common_name=name, **fields)
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    path.write_bytes(issued.private_key_pem.bytes() + chain)
    return path


@contextlib.contextmanager
def served_by_tls(app: Middleware, transport: Transport) -> Iterator[int]:
    """The port."""
    port = free_port()
    server = server_of(app, "127.0.0.1", port, 100, certificate=transport.certificate)

    def run() -> None:
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            runner.run(server.serve_unsignalled())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_until(lambda: server.started, 20, "the server to start")
        yield port
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


def client(authority: trustme.CA, **certificate: Any) -> httpx.Client:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if certificate:
        context.load_cert_chain(certificate["file"])
    return httpx.Client(verify=context, trust_env=False, timeout=PATIENCE)


def raw(authority: trustme.CA, port: int, data: bytes, certificate: Path | None = None) -> bytes:
    """The answer to bytes that are sent at once."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if certificate is not None:
        context.load_cert_chain(certificate)
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(data)
        return connection.recv(1_000)


def client_certificate(authority: trustme.CA, path: Path, *names: str, subject: str = "", days: int = 1) -> Path:
    """A certificate with its key. `names`: with their kinds, `URI:..` or `DNS:..`; `days`: until it ends."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    kinds = {"URI": x509.UniformResourceIdentifier, "DNS": x509.DNSName}
    alternative = [kinds[kind](name) for kind, _, name in (each.partition(":") for each in names)]
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name.from_rfc4514_string(subject))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(alternative), critical=not subject)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)  # type: ignore[arg-type]
    )
    signer: Any = load_pem_private_key(authority.private_key_pem.bytes(), None)
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(key.private_bytes(*form) + made.sign(signer, SHA256()).public_bytes(Encoding.PEM))
    return path
