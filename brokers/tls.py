"""TLS of the connections to the brokers, from files that may be replaced while the process runs."""

import ssl
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from weakref import WeakKeyDictionary


class TlsError(ValueError):
    """The files cannot be used. The text names the file, says why, and holds no secret."""


class TlsFiles(NamedTuple):
    """Where certificates and keys are, all PEM. None: the system's authorities; no client certificate."""

    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None  # None: the certificate's file holds the key, too
    key_password: str = ""


_made_of: WeakKeyDictionary[ssl.SSLContext, TlsFiles] = WeakKeyDictionary()


def renewed(context: ssl.SSLContext | None) -> ssl.SSLContext | None:
    """Returns the context for a connection that is opened now: another one if a file of `client_context` changed.

    Files that cannot be used now change nothing.
    """
    files = None if context is None else _made_of.get(context)
    try:
        return context if files is None else client_context(files)
    except TlsError:
        return context


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Returns the context of a client that checks the server's certificate and name, TLS 1.2 or newer.

    The same files give the same context until one of them changes: reading the authorities takes 30 ms.

    Raises:
        TlsError: a file cannot be read, or is no certificate or key.
    """
    try:
        changed = tuple(path.stat().st_mtime_ns for path in files[:3] if path is not None)
    except OSError as error:
        raise TlsError(f"the file {error.filename} cannot be read: {error.strerror}") from None
    return _context(files, changed)


@lru_cache(maxsize=16)
def _context(files: TlsFiles, _changed: tuple[int, ...]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=files.authorities)
    except (ssl.SSLError, OSError) as error:
        raise TlsError(f"the file {files.authorities} has no usable certificate: {_why(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if files.certificate is not None:
        _load_client_certificate(context, files)
    _made_of[context] = files
    return context


def _load_client_certificate(context: ssl.SSLContext, files: TlsFiles) -> None:
    assert files.certificate is not None
    try:
        # The callable keeps OpenSSL from asking for a passphrase at the terminal.
        context.load_cert_chain(files.certificate, files.key, lambda: files.key_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise TlsError(
            f"the client certificate {files.certificate} and the key {files.key or files.certificate} cannot be used: "
            f"{_why(error)}"
        ) from None


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    known = {
        "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
        "BAD_DECRYPT": "the passphrase is wrong",
        "BAD_PASSWORD_READ": "the key is encrypted, and no passphrase is set",
        "EMPTY_PASSWORD": "the key is encrypted, and no passphrase is set",
        "NO_START_LINE": "it is not PEM",
        "NO_CERTIFICATE_OR_CRL_FOUND": "it is not PEM",
    }
    return known.get(str(reason), str(reason or getattr(error, "strerror", None) or type(error).__name__))
