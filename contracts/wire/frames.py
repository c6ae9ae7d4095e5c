"""Confluent's wire format for JSON: the byte 0, a schema's id, and then the JSON (docs/decisions/0050).

Every reader of the topic takes both: the JSON as it is, and framed. What a registry says of the id is not asked: the
JSON inside is validated as ever.
"""

import struct

MAGIC = b"\0"
LENGTH = 5  # bytes before the JSON: the magic byte and the schema's id, big-endian
MAX_SCHEMA_ID = 2**31 - 1

_pack = struct.Struct(">bI").pack


def frame_for(schema_id: int) -> bytes:
    """What stands before the JSON. Raises ValueError for what is no id."""
    if not 0 <= schema_id <= MAX_SCHEMA_ID:
        raise ValueError(f"a schema's id is 0 to {MAX_SCHEMA_ID}")
    return _pack(0, schema_id)


def frame_of(value: bytes) -> bytes:
    """What stands before the JSON object of a value; empty when it is not framed."""
    # No JSON begins with NUL. UTF-16 may, and never has `{` at an odd place.
    if value.startswith(MAGIC) and value[LENGTH:].lstrip(b" \t\r\n").startswith(b"{"):
        return value[:LENGTH]
    return b""


def unframed(value: bytes) -> bytes:
    """The JSON of a framed value; any other value as it is."""
    return value[LENGTH:] if frame_of(value) else value
