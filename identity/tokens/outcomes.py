"""What a token may turn out to be, beside a `Principal`: closed types with one meaning each."""

from enum import Enum

import msgspec


class TokenFault(Enum):
    """Why a token is refused (401); the value is what the client is told. None says anything of the token's content."""

    TOO_LARGE = "The token is too large."
    MALFORMED = "The token is malformed."
    HEADER = "The token has a header that is not accepted."
    TYPE = "The token is not of type at+jwt."
    ALGORITHM = "The token is signed with an algorithm that is not accepted."
    KEY = "The token is signed with a key that is not known."
    SIGNATURE = "The signature of the token is wrong."
    ISSUER = "The token is of another issuer."
    AUDIENCE = "The token is for another audience."
    EXPIRED = "The token has expired."
    NOT_YET = "The token is not valid yet."
    TIMES = "The token has no usable times."
    SUBJECT = "The token has no usable subject."
    TENANT = "The token has no usable tenant."
    SCOPES = "The token has no usable scopes."


class NeedsKeys(msgspec.Struct, frozen=True):
    """The provider has to be asked for its keys first."""


class KeysAway(msgspec.Struct, frozen=True):
    """Nobody can say now whether the token is good: the provider does not give its keys (503, never 401)."""

    retry_after: int  # seconds


NEEDS_KEYS = NeedsKeys()
