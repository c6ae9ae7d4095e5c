"""The envelope of the original Express API, for every outcome; all four keys are always there (docs/decisions/0011)."""

import msgspec

_encode = msgspec.json.Encoder().encode

ACCEPTED_PREFIX = b'{"success":true,"event":'
ACCEPTED_SUFFIX = b',"errors":null,"error":null}'

INTERNAL_ERROR = "Internal server error"


class Envelope(msgspec.Struct, frozen=True):
    """`errors` lists the problems of an invalid request; `error` is one sentence about anything else."""

    success: bool
    event: None = None
    errors: list[str] | None = None
    error: str | None = None


def accepted(event_json: bytes) -> bytes:
    """The 201's body around an event that is JSON already."""
    return ACCEPTED_PREFIX + event_json + ACCEPTED_SUFFIX


def invalid(problems: list[str]) -> bytes:
    """The 400's body: every problem as a sentence."""
    return _encode(Envelope(success=False, errors=problems))


def failed(error: str) -> bytes:
    """The body of any other refusal or failure."""
    return _encode(Envelope(success=False, error=error))
