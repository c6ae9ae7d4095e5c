"""What a client shows to a broker: tokens for SASL OAUTHBEARER (RFC 7628, KIP-255), and passwords that may change.

A token comes from a file, or from an OAuth 2.0 endpoint (RFC 6749, 4.4); aiokafka asks for one for each connection.
"""

from pathlib import Path
from typing import NamedTuple

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError
from pydantic import SecretStr

LARGEST = 65_536  # bytes of a token or of an endpoint's answer


class TokenUnavailableError(KafkaConnectionError):  # type: ignore[misc]  # aiokafka is untyped
    """There is no token. The text says why, and quotes no part of one."""


class TokenEndpoint(NamedTuple):
    """A token endpoint, and what this client identifies itself with."""

    url: str
    client_id: str
    client_secret: str
    scope: str = ""
    authorities: Path | None = None

    def __repr__(self) -> str:
        return f"TokenEndpoint({self.url!r})"


class FileToken(AbstractTokenProvider):  # type: ignore[misc]
    """A token that something else keeps fresh in a file, such as an agent beside the process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def token(self) -> str:
        """Reads the file. Raises TokenUnavailableError."""
        try:
            with self._path.open("rb") as file:
                text = file.read(LARGEST + 1).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not ASCII"
            raise TokenUnavailableError(f"the token file {self._path} cannot be read: {why}") from None
        if not text or len(text) > LARGEST:
            raise TokenUnavailableError(f"the token file {self._path} is {'too large' if text else 'empty'}")
        return text


class Password(str):
    """A password as it was when a client was made, for libraries that take nothing but a str; `now` asks again."""

    _secret: SecretStr

    def __new__(cls, secret: SecretStr) -> "Password":
        """Takes what the secret holds now."""
        made = super().__new__(cls, secret.get_secret_value())
        made._secret = secret
        return made

    def now(self) -> str:
        """Returns what the secret holds now."""
        return self._secret.get_secret_value()


def password_now(password: str | None) -> str | None:
    """Returns the password for a connection that is opened now."""
    return password.now() if isinstance(password, Password) else password
