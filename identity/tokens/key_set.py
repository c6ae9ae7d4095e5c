"""The issuer's public keys (RFC 7517), each for one algorithm: nothing that a token says chooses how it is checked."""

import warnings
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Protocol

from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from identity.tokens.settings import ALGORITHMS, RSA_BITS
from identity.tokens.strict_json import decode_object

MAX_KEYS = 64
MOST_RSA_BITS = 8192
MAX_RSA_EXPONENT = 1 << 32  # a larger one only costs time
_KINDS: Mapping[str, type[Key]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}


class Algorithm(Protocol):
    """What joserfc knows of an algorithm."""

    def check_key(self, key: Any) -> None:
        """Raises JoseError for a key of another kind, curve, use or algorithm."""
        ...

    def verify(self, msg: bytes, sig: bytes, key: Any) -> bool:
        """Whether the signature is of the message, by the key."""
        ...


class KeySet:
    """The keys that one fetch brought, by kid and algorithm."""

    def __init__(self, keys: Mapping[tuple[str, str], tuple[Algorithm, Key]], unusable: int) -> None:
        self._verifiers = keys
        self.kids = {kid for kid, _ in keys}
        self.unusable = unusable  # keys that the provider has and that we do not take

    def has(self, kid: str, algorithm: str) -> bool:
        """Whether there is a key of this name, for this algorithm."""
        return (kid, algorithm) in self._verifiers

    def thumbprints(self) -> dict[tuple[str, str], str]:
        """What makes two sets of keys the same one (RFC 7638)."""
        return {name: key.thumbprint() for name, (_, key) in self._verifiers.items()}

    def is_signed(self, kid: str, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether the signature is good. Raises KeyError for a key that is not here."""
        verifier, key = self._verifiers[kid, algorithm]
        try:
            return verifier.verify(signed, signature, key) is True
        except (ValueError, TypeError, JoseError):  # of the wrong length, or no signature at all
            return False


def read_key_set(text: bytes, algorithms: Collection[str], rsa_bits: int = RSA_BITS) -> KeySet:
    """Reads a JWK Set. Raises ValueError for what is none, and for one without a key that could be used.

    Keys that are private, symmetric, weak (RSA: shorter than `rsa_bits`), for encryption or for an algorithm that is
    not accepted are left out. So are two keys of one name for one algorithm: nobody could tell them apart.
    """
    listed = decode_object(text).get("keys")
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise ValueError(f"it is no list of at most {MAX_KEYS} keys")
    usable: dict[tuple[str, str], tuple[Algorithm, Key]] = {}
    twice: set[tuple[str, str]] = set()
    unusable = 0
    for entry in listed:
        found = dict(_uses(entry, algorithms, rsa_bits))
        unusable += not found
        twice |= usable.keys() & found.keys()
        usable |= found
    sound = {name: use for name, use in usable.items() if name not in twice}
    if not sound:
        raise ValueError("it has no key that could be used")
    return KeySet(sound, unusable + len(twice))


def _uses(
    entry: object, algorithms: Collection[str], rsa_bits: int
) -> list[tuple[tuple[str, str], tuple[Algorithm, Key]]]:
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str) or "d" in entry or "k" in entry:
        return []
    kind, operations = _KINDS.get(str(entry.get("kty"))), entry.get("key_ops", ["verify"])
    if kind is None or not isinstance(operations, list) or "verify" not in operations:
        return []
    try:
        with warnings.catch_warnings():  # of a key that is weak, which `_suits` leaves out
            warnings.simplefilter("ignore", SecurityWarning)
            key: Key = kind.import_key(entry)
        return [((entry["kid"], name), (verifier(name), key)) for name in algorithms if _suits(name, key, rsa_bits)]
    except (ValueError, TypeError, KeyError, JoseError):
        return []


def _suits(name: str, key: Key, rsa_bits: int) -> bool:
    try:
        verifier(name).check_key(key)
    except JoseError:
        return False
    if isinstance(key, OKPKey):
        return key.curve_name == "Ed25519"
    if isinstance(key, RSAKey):
        public = key.public_key
        return rsa_bits <= public.key_size <= MOST_RSA_BITS and public.public_numbers().e < MAX_RSA_EXPONENT
    return True


@cache
def verifier(name: str) -> Algorithm:
    """joserfc's implementation of one of `ALGORITHMS`."""
    with warnings.catch_warnings():  # EdDSA is the name that providers still write
        warnings.simplefilter("ignore", SecurityWarning)
        return JWSRegistry(algorithms=list(ALGORITHMS)).get_alg(name)
