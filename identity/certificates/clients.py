"""The file that says which certificate stands for whom (`CLIENT_CERTIFICATES_FILE`): a JSON array of clients."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from contracts.event import TenantId
from telemetry.health import DependencyState
from telemetry.logs import get_logger
from web.policies.principal import AccessScope, Principal

LARGEST = 1_048_576  # bytes of the file
LOOK_EVERY = 1.0  # seconds between looks whether the file is another one
KINDS = ("URI:", "DNS:")  # of alternative names; what has none of these is a whole subject

Clients = Mapping[str, Principal]  # by the name in the certificate


class ClientsFileError(ValueError):
    """The file cannot be used. The text names it and quotes no value of it."""


class Client(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One machine. `certificate`: an alternative name with its kind, or the whole subject as RFC 4514 writes it."""

    certificate: str
    tenant: TenantId
    scopes: frozenset[AccessScope]


_decode = msgspec.json.Decoder(list[Client]).decode


def read_clients(file: Path) -> Clients:
    """Reads the file. Raises ClientsFileError."""
    try:
        with file.open("rb") as opened:
            listed = _decode(opened.read(LARGEST))
    except OSError as error:
        raise ClientsFileError(f"the file {file} cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ClientsFileError(f"the file {file} is no list of clients: {error}") from None
    found = {client.certificate: principal_of(client) for client in listed}
    if len(found) < len(listed):
        raise ClientsFileError(f"the file {file} lists a certificate twice")
    if not all(name.startswith(KINDS) or "=" in name for name in found):
        raise ClientsFileError(
            f"the file {file}: a certificate is `URI:..`, `DNS:..` or a subject such as `CN=..,O=..`"
        )
    return found


def principal_of(client: Client) -> Principal:
    """Who the machine is."""
    return Principal(client.tenant, f"certificate:{client.certificate}", client.scopes)


class ClientsFile:
    """The file as it is now. While it cannot be used, no certificate lets anybody in: who was taken out stays out."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Reads it. Raises ClientsFileError. `clock`: seconds that never go back."""
        self._file, self._clock = file, clock
        self._seen = self._state()
        self._known: Clients | None = read_clients(file)
        self._looked_at = clock()
        self._trouble = ""

    def current(self) -> Clients | None:
        """Who is known; None while the file cannot be used. Looks at the file now and then."""
        now = self._clock()
        if now - self._looked_at >= LOOK_EVERY:
            self._looked_at = now
            self._look()
        return self._known

    async def state(self) -> DependencyState:
        """For health."""
        return DependencyState(ok=self.current() is not None, detail=self._trouble)

    def _look(self) -> None:
        state = self._state()
        if state == self._seen:
            return
        self._seen, self._known, self._trouble = state, None, ""
        try:
            self._known = read_clients(self._file)
        except ClientsFileError as error:
            self._trouble = str(error)
        get_logger("identity").info("client_certificates_read", clients=len(self._known or ()), reason=self._trouble)

    def _state(self) -> tuple[int, int, int] | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size
