"""The head of a request, as its fields frame it."""

from collections.abc import Sequence

Fields = Sequence[tuple[bytes, bytes]]  # names in lower case


def is_plainly_framed(fields: Fields) -> bool:
    """Whether everyone on the way sees the same body: `chunked` once, or nothing but a length."""
    codings = [value.lower() for name, value in fields if name == b"transfer-encoding"]
    return codings in ([], [b"chunked"])


def head_without_upgrade(method: bytes, target: bytes, version: str, fields: Fields) -> bytes:
    """The parser takes what follows an upgrade for another protocol, a body too; without the field, it does not."""
    line = b"%b %b HTTP/%b\r\n" % (method, target, version.encode())
    return line + b"".join(b"%b: %b\r\n" % field for field in fields if field[0] != b"upgrade") + b"\r\n"
