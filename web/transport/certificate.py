"""The certificate of a process, which may be replaced while it serves."""

import re
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from cryptography import x509

from telemetry.health import DependencyState
from telemetry.logs import get_logger
from telemetry.metrics import CERTIFICATE_END

SOON = timedelta(days=14)  # before its end, health says that a certificate should be renewed
LARGEST = 1_048_576  # bytes of a file
PLAIN_HTTP = ("HTTP_REQUEST", "HTTPS_PROXY_REQUEST")  # how OpenSSL calls what is no TLS: a request, and a CONNECT
NO_TLS = "WRONG_VERSION_NUMBER"  # how it calls the methods that it does not know, such as DELETE, and everything else
MOST_BEHIND = 1_048_576  # bytes that may follow plain HTTP; if a body that is sent closed the way, no answer got there
_ends_a_request_line = re.compile(rb"[A-Z]* \S+ HTTP/1\.[01]\r?\n").match
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2: forward secrecy and authenticated encryption, as all of TLS 1.3


class CertificateError(ValueError):
    """Certificate and key cannot be used. The text names the files and holds no secret."""


class AnsweringInPlain(ssl.SSLObject):
    """A connection that answers a client that speaks plain HTTP here, instead of leaving it without a word.

    What follows is thrown away: uvloop keeps all that OpenSSL does not take, for as long as a handshake may last.
    """

    answer: Callable[[], bytes]
    from_client: ssl.MemoryBIO
    to_client: ssl.MemoryBIO
    _answered = False
    _behind = 0  # bytes that followed

    def do_handshake(self) -> None:
        """As `ssl.SSLObject`. Plain HTTP is answered; too much behind it ends the connection."""
        if self._answered:
            self._throw_away()
        try:
            super().do_handshake()
        except ssl.SSLError as error:
            if not self._is_plain_http(error):
                raise
        else:
            return
        self._answered = True
        self.to_client.write(self.answer())
        self._throw_away()

    def _is_plain_http(self, error: ssl.SSLError) -> bool:
        if error.reason in PLAIN_HTTP:
            return True
        # OpenSSL took the first five bytes, such as `DELET`.
        return error.reason == NO_TLS and _ends_a_request_line(self.from_client.read()) is not None

    def _throw_away(self) -> NoReturn:
        self._behind += len(self.from_client.read())
        if self._behind > MOST_BEHIND:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, "too much behind plain HTTP")
        raise ssl.SSLWantReadError  # whoever shakes hands sends what is written, and waits


class CurrentContext(ssl.SSLContext):
    """What a server keeps for all its life: each connection is wrapped by the context that holds now."""

    current: ssl.SSLContext
    answer_in_plain: Callable[[], bytes] = staticmethod(lambda: b"")  # what plain HTTP is answered, as it is sent

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **options: Any) -> ssl.SSLObject:
        """As `ssl.SSLContext`."""
        found = self.current.wrap_bio(incoming, outgoing, *args, **options)
        assert isinstance(found, AnsweringInPlain)
        found.answer, found.from_client, found.to_client = self.answer_in_plain, incoming, outgoing
        return found


class ServerCertificate:
    """A certificate with its key. `context` serves TLS 1.2 and newer; new connections get what was read last."""

    def __init__(
        self, certificate: Path, key: Path | None, key_password: str, client_authority: Path | None, *, required: bool
    ) -> None:
        """Reads the files. Raises CertificateError.

        Args:
            certificate: PEM, with its chain.
            key: PEM; None: in the same file.
            key_password: Its passphrase; empty if it is not encrypted.
            client_authority: What signs the certificates of clients; None: they are asked for none.
            required: Whether a client without a certificate is refused.
        """
        self._certificate, self._key, self._password = certificate, key, key_password
        self._client_authority, self._required = client_authority, required
        self._seen = self._state_of_files()
        self.context = CurrentContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.current = self._fresh_context()
        self.ends_at = self._end()
        CERTIFICATE_END.set(self.ends_at.timestamp())

    def asks_clients(self) -> bool:
        """Whether clients may, or must, come with a certificate."""
        return self._client_authority is not None

    def reload_if_changed(self) -> None:
        """Reads the files again if they are others. If they cannot be used, the old ones stay, and the log says why."""
        try:
            state = self._state_of_files()
            if state == self._seen:
                return
            self._seen = state
            # Another one: what is loaded into a context stays there, also an authority that was taken out.
            self.context.current = self._fresh_context()
            self.ends_at = self._end()
            CERTIFICATE_END.set(self.ends_at.timestamp())
        except CertificateError as error:
            get_logger("web").error("certificate_not_reloaded", reason=str(error))
            return
        get_logger("web").info("certificate_reloaded", ends_at=self.ends_at.isoformat())

    async def state(self) -> DependencyState:
        """For health: until when it is valid."""
        left = self.ends_at - datetime.now(UTC)
        detail = f"valid until {self.ends_at:%Y-%m-%d %H:%M} UTC, {left.days} days"
        if left <= timedelta(0):
            return DependencyState(ok=False, detail=f"expired at {self.ends_at:%Y-%m-%d %H:%M} UTC: renew it")
        return DependencyState(ok=True, detail=f"{detail}: renew it" if left < SOON else detail)

    def _state_of_files(self) -> list[tuple[int, int, int]]:
        paths = [path for path in (self._certificate, self._key, self._client_authority) if path is not None]
        try:
            return [(found.st_mtime_ns, found.st_ino, found.st_size) for found in (path.stat() for path in paths)]
        except OSError as error:
            raise CertificateError(f"the file {error.filename} cannot be read: {error.strerror}") from None

    def _fresh_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sslobject_class = AnsweringInPlain
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_ciphers(CIPHERS)
        context.set_alpn_protocols(["http/1.1"])
        if self._client_authority is not None:
            context.verify_mode = ssl.CERT_REQUIRED if self._required else ssl.CERT_OPTIONAL
        self._load_into(context)
        return context

    def _load_into(self, context: ssl.SSLContext) -> None:
        self._tried(
            # The callable keeps OpenSSL from asking for a passphrase at the terminal.
            lambda: context.load_cert_chain(self._certificate, self._key, lambda: self._password),
            f"the certificate {self._certificate} with the key {self._key or self._certificate}",
        )
        if self._client_authority is not None:
            self._tried(lambda: context.load_verify_locations(self._client_authority), f"{self._client_authority}")

    def _tried(self, load: Callable[[], object], what: str) -> None:
        try:
            load()
        except (ssl.SSLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
            raise CertificateError(f"{what} cannot be used: {reason}") from None

    def _end(self) -> datetime:
        try:
            with self._certificate.open("rb") as file:
                return x509.load_pem_x509_certificates(file.read(LARGEST))[0].not_valid_after_utc
        except (OSError, ValueError, IndexError):
            raise CertificateError(f"the file {self._certificate} begins with no certificate") from None
