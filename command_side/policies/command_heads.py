"""The head of a command, checked before its body is looked at: method, media type, encoding, size, idempotency key."""

import re
from collections.abc import Callable, Collection, Mapping

import msgspec

from command_side.idempotency import is_valid_key
from telemetry.metrics import COMMANDS_REJECTED
from web.policies.decisions import ADMIT, Decision, RefusedError
from web.policies.identity import Beacon
from web.policies.request_head import RequestHead

JSON = b"application/json"
CLOSE = (b"connection", b"close")
PLAIN = (JSON,)
TEXT = (b"text/plain;charset=utf-8", b"text/plain")
# RFC 9110, 5.6.6. A semicolon with nothing behind it is sound.
OPTIONAL_SPACE = b" \t"
TOKEN = rb"[!#$%&'*+.^_`|~0-9a-z-]+"
QUOTED = rb'"(?:[^"\\]|\\.)*"'
PARAMETER = rb"(%b)=(%b|%b)" % (TOKEN, TOKEN, QUOTED)
each_parameter = re.compile(PARAMETER).findall
PLACE = rb"[ \t]*(?:%b[ \t]*)?" % PARAMETER
is_parameters = re.compile(rb"%b(?:;%b)*" % (PLACE, PLACE)).fullmatch

is_string = re.compile(rb'"((?:[ !#-\[\]-~]|\\["\\])*)"').fullmatch  # RFC 9651, 3.3.3
unescaped = re.compile(rb"\\(.)").sub
BAD_KEY = "The header `Idempotency-Key` must be 1 to 255 visible ASCII characters, bare or in quotes, once."


class CommandHead(msgspec.Struct, frozen=True, gc=False):
    """What the head of a command says: the fact that its handler needs."""

    media_type: bytes
    idempotency_key: bytes | None
    length: int | None  # of the body, bytes; None: it comes in chunks, or there is none
    max_bytes: int  # of a body at this path
    atomic: bool = False  # of a batch


class CommandHeads:
    """The policy: refuses a command that its head shows to be none, and learns a `CommandHead` of any other."""

    def __init__(self, readers: Mapping[str, Callable[[RequestHead], CommandHead]]) -> None:
        """`readers`: by path, what reads the head of a request, or raises RefusedError."""
        self._readers = readers

    def __call__(self, head: RequestHead) -> Decision:
        """See `RequestPolicy`."""
        read = self._readers.get(head.path)
        if read is None:
            return ADMIT
        try:
            head.facts[CommandHead] = read(head)  # as `Admit` has it done, at half the price
        except RefusedError as refused:
            COMMANDS_REJECTED.labels(status=refused.answer.status).inc()
            return refused.answer
        return ADMIT


def read_head(max_bytes: int, head: RequestHead, media_types: Collection[bytes] = PLAIN) -> CommandHead:
    """Raises RefusedError for what the body cannot be: another method, another media type, encoded, too large."""
    if head.method != "POST":
        raise RefusedError(405, f"Method {head.method} is not allowed here; use POST.", (b"allow", b"POST"))
    media_type, key, length = JSON, None, None
    for name, value in head.headers:
        if name == b"content-type":
            media_type = value if value in media_types else unusual_media_type(head, value, media_types)
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise RefusedError(415, "Content-Encoding is not supported; send the body as it is.")
        elif name == b"content-length":
            length = int(value)
            if length > max_bytes:
                raise RefusedError(413, too_large(max_bytes), CLOSE)
        elif name == b"idempotency-key":
            if key is not None:
                raise RefusedError(400, BAD_KEY)
            key = checked_key(value)
    return CommandHead(media_type, key, length, max_bytes)


def unusual_media_type(head: RequestHead, value: bytes, allowed: Collection[bytes]) -> bytes:
    """The media type that another spelling means. Raises RefusedError as `checked_media_type`."""
    return JSON if is_beacon(head, value) else checked_media_type(value, allowed)


def is_beacon(head: RequestHead, media_type: bytes) -> bool:
    """Whether this is JSON that `navigator.sendBeacon` sent as text: any other type would need a preflight."""
    return Beacon in head.facts and media_type.lower() in TEXT


def checked_key(value: bytes) -> bytes:
    """The key, which may stand in quotes: a string of RFC 9651, as the IETF's draft wants. Raises RefusedError."""
    if value.startswith(b'"'):
        quoted = is_string(value)
        value = b"" if quoted is None else unescaped(rb"\1", quoted[1])
    if not is_valid_key(value):
        raise RefusedError(400, BAD_KEY)
    return value


def checked_media_type(value: bytes, allowed: Collection[bytes]) -> bytes:
    """The media type without its parameters. Raises RefusedError when it is not allowed, or not in UTF-8."""
    media_type, _, parameters = value.lower().partition(b";")
    media_type = media_type.strip(OPTIONAL_SPACE)
    if media_type not in allowed:
        names = " or ".join(name.decode() for name in allowed)
        raise RefusedError(415, f"Content-Type must be {names}.")
    if not is_parameters(parameters):
        raise RefusedError(415, 'Content-Type is malformed: a parameter is name=value, or name="value".')
    charsets = [text.strip(b'"') for name, text in each_parameter(parameters) if name == b"charset"]
    if any(charset not in (b"utf-8", b"utf8") for charset in charsets):
        raise RefusedError(415, "The charset must be UTF-8.")
    return media_type


def too_large(max_bytes: int) -> str:
    """The sentence of a 413."""
    return f"The body is larger than {max_bytes // 1024} KiB."
