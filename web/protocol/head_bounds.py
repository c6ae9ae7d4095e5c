"""The head of a request, as its fields frame it."""

from collections.abc import Sequence

Fields = Sequence[tuple[bytes, bytes]]  # names in lower case

NO_CODING: list[bytes] = []
CHUNKED = [b"chunked"]
VERSIONS = ("1.1", "1.0")
BODY_HEADERS = {b"content-length", b"transfer-encoding"}


def framing_of(fields: Fields) -> tuple[int, list[bytes], int]:
    """How many fields `host` there are, the values of all fields `transfer-encoding`, and the declared length or 0."""
    hosts, codings, length = 0, NO_CODING, 0
    for name, value in fields:
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            codings = [*codings, value.lower()]
    return hosts, codings, length


def is_plainly_framed(codings: list[bytes]) -> bool:
    """Whether everyone on the way sees the same body: `chunked` once, or nothing but a length."""
    return not codings or codings == CHUNKED


def head_without_upgrade(method: bytes, target: bytes, version: str, fields: Fields) -> bytes:
    """The parser takes what follows an upgrade for another protocol, a body too; without the field, it does not."""
    line = b"%b %b HTTP/%b\r\n" % (method, target, version.encode())
    return line + b"".join(b"%b: %b\r\n" % field for field in fields if field[0] != b"upgrade") + b"\r\n"
