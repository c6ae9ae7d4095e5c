"""What ENVIRONMENT=production refuses: connections that others may read, and secrets that can be guessed."""

import string
from collections.abc import Iterator
from math import log2
from typing import Protocol, runtime_checkable

from pydantic import SecretStr
from pydantic_settings import BaseSettings

from footfall.processes.secrets.secret_files import FileSecret, secret_names

SEALING = ("cursor_secret", "position_secret")  # how the names of keys begin that texts for clients are sealed by
LEAST_BITS = 128  # of ASVS 5.0, 11.2.3
LEAST_DIFFERENT = 8  # characters
KINDS = (string.digits, string.ascii_lowercase, string.ascii_uppercase, string.punctuation + " ")
GUESSABLE = (
    f"it can be guessed, as it has too few characters for {LEAST_BITS} random bits. Make one: openssl rand -base64 24"
)
ANYBODYS = "everybody may write its file; take that right away (chmod o-w)"
READABLE = (
    "rows and the password may travel in the clear. Add ?sslmode=verify-full&sslrootcert=FILE to the URL; in a network "
    "that nobody else can listen to, say so with ?sslmode=disable"
)


@runtime_checkable
class Particular(Protocol):
    """Settings that are particular about production themselves."""

    def problems_in_production(self) -> list[str]:
        """Returns a line for each problem; it quotes no secret."""
        ...


def problems_in_production(settings: BaseSettings) -> list[str]:
    """Returns a line for each setting that production refuses; it quotes no secret."""
    problems = settings.problems_in_production() if isinstance(settings, Particular) else []
    secrets = {name: getattr(settings, name) for name in secret_names(type(settings))}
    return [
        *problems,
        *(f"{name.upper()}: {why}" for name, secret in secrets.items() for why in _refused(name, secret)),
    ]


def _refused(name: str, secret: SecretStr) -> Iterator[str]:
    value = secret.get_secret_value()
    if name.startswith(SEALING) and can_be_guessed(value):
        yield GUESSABLE
    if isinstance(secret, FileSecret) and secret.is_anybodys_to_write():
        yield ANYBODYS
    if name.endswith(("database_url", "key_store_url")) and value and _may_be_read(value):
        yield READABLE


def can_be_guessed(secret: str) -> bool:
    """Whether a secret is too short for `LEAST_BITS`, had it been drawn at random from the kinds of characters it has.

    Nobody can see that a text was not drawn at random; that one is too short for it, anybody can.
    """
    if not secret:
        return False
    if set(secret) <= set(string.hexdigits):
        drawn_from = 16
    else:
        drawn_from = sum(len(kind) for kind in KINDS if set(kind) & set(secret))
    return len(secret) * log2(max(drawn_from, 2)) < LEAST_BITS or len(set(secret)) < LEAST_DIFFERENT


def _may_be_read(url: str) -> bool:
    from read_model.connecting.database_url import (  # noqa: PLC0415 - the command side has no read model
        parse,
        plaintext_by_default,
    )

    return plaintext_by_default(parse(url))
