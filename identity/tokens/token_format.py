"""Takes a token apart (JWS Compact Serialization, RFC 7515) and checks its header before any key is looked for."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection
from typing import Any

import msgspec

from identity.tokens.outcomes import TokenFault
from identity.tokens.strict_json import decode_object

# RFC 9068, 2.1. Case means nothing in a media type, and it may leave out its `application/` (RFC 7515, 4.1.9).
ACCESS_TOKEN_TYPES = ("at+jwt", "application/at+jwt")
# Whatever else a header may say names another key (jwk, jku, x5u, x5c), or another way to read the token (crit, b64,
# zip, cty): none of it is followed, and a token that has it was not meant for us.
HEADER_NAMES = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})
MAX_KID_LENGTH = 255  # characters
_segments = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)").fullmatch


class SignedToken(msgspec.Struct, frozen=True, gc=False):
    """A token whose header is sound, and whose signature nobody has checked yet."""

    algorithm: str
    kid: str
    signed: bytes  # what the signature is of
    signature: bytes
    payload: bytes


def take_apart(token: bytes, max_bytes: int, algorithms: Collection[str]) -> SignedToken | TokenFault:
    """The parts of a token, or what is wrong with it. A token that is too large is not looked at."""
    if len(token) > max_bytes:
        return TokenFault.TOO_LARGE
    segments = _segments(token)
    if segments is None:
        return TokenFault.MALFORMED
    try:
        header_text, payload, signature = map(_decoded, segments.groups())
        header = decode_object(header_text)
    except ValueError:
        return TokenFault.MALFORMED
    fault = _header_fault(header, algorithms)
    return fault or SignedToken(header["alg"], header["kid"], token[: segments.end(2)], signature, payload)


def _header_fault(header: dict[str, Any], algorithms: Collection[str]) -> TokenFault | None:
    if not HEADER_NAMES.issuperset(header):
        return TokenFault.HEADER
    kind, algorithm, kid = header.get("typ"), header.get("alg"), header.get("kid")
    if not isinstance(kind, str) or kind.lower() not in ACCESS_TOKEN_TYPES:
        return TokenFault.TYPE
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        return TokenFault.ALGORITHM
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID_LENGTH:
        return TokenFault.KEY
    return None


def _decoded(segment: bytes) -> bytes:
    """Raises ValueError where another text would mean the same bytes: there is one spelling of a token."""
    decoded = urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    if urlsafe_b64encode(decoded).rstrip(b"=") != segment:
        raise ValueError("not as base64url is written")
    return decoded
