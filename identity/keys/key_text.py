"""What a key looks like, and what is kept of it: never the key itself."""

import re
import secrets
import string
from hashlib import sha256
from typing import Literal

from web.policies.principal import AccessScope

KeyKind = Literal["public", "secret", "operator"]

PREFIXES: dict[KeyKind, str] = {"public": "ffw", "secret": "ffs", "operator": "ffa"}
ALPHABET = string.ascii_letters + string.digits
RANDOM_CHARACTERS = 43  # of 62: 256 bits

# What a key of a kind may be given at most. A public key is in every visitor's browser.
ALLOWED_SCOPES: dict[KeyKind, frozenset[AccessScope]] = {
    "public": frozenset({AccessScope.EVENTS_WRITE}),
    "secret": frozenset(AccessScope) - {AccessScope.OPERATOR},
    "operator": frozenset(AccessScope),
}

PREFIX = b"ff"  # of every key; no JSON Web Token begins so
KEY_LENGTH = 4 + RANDOM_CHARACTERS
is_key = re.compile(rb"ff[wsa]_[0-9A-Za-z]{43}").fullmatch


def new_key(kind: KeyKind) -> str:
    """A fresh key of 256 random bits; it exists nowhere else."""
    return f"{PREFIXES[kind]}_{''.join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARACTERS))}"


def digest_of(key: bytes) -> bytes:
    """The SHA-256 of a key. A key of 256 random bits needs no slow hash: nobody can try them all."""
    return sha256(key).digest()
