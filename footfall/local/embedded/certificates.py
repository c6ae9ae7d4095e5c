"""Makes certificates on the spot, for `footfall up --secure` and the tests: an authority, and what it signs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization

from footfall.local.embedded.ports import HOST

HOSTS = ("localhost", HOST, "::1")


class Certificates:
    """The PEM files of one directory; it is made when it is not there. Then nobody can sign more: the key is forgotten.

    `parties`: the hosts of each party's certificate.

    `authority`: the certificate that clients trust. `file(name)`: key, certificate and chain of one party.
    """

    def __init__(self, directory: Path, parties: Mapping[str, Sequence[str]]) -> None:
        self.directory = directory
        if not directory.exists():
            _make(directory, parties)

    @property
    def authority(self) -> Path:
        return self.directory / "ca.pem"

    def file(self, name: str) -> Path:
        return self.directory / f"{name}.pem"


def _make(directory: Path, parties: Mapping[str, Sequence[str]]) -> None:
    """Makes all of them, so that an interrupted run leaves no half-made directory."""
    half_made = directory.with_suffix(".part")
    half_made.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = trustme.CA(organization_name="Footfall on this machine")
    authority.cert_pem.write_to_path(half_made / "ca.pem")
    for name, hosts in parties.items():
        _write_certificate(authority, name, half_made / f"{name}.pem", hosts)
    half_made.replace(directory)


def _write_certificate(authority: trustme.CA, name: str, path: Path, hosts: Sequence[str]) -> None:
    """Writes key, certificate and chain of a party into one file that only this user can read."""
    issued = authority.issue_cert(*hosts, common_name=name, organization_name="Footfall")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,  # the only one that Java reads
        serialization.NoEncryption(),
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text + b"".join(blob.bytes() for blob in issued.cert_chain_pems) + authority.cert_pem.bytes())
