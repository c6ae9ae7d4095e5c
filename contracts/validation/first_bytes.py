"""What bytes that are no JSON are instead, where their beginning shows it: a diagnosis, never a way to accept them."""

from contracts.wire.frames import LENGTH

BEGINNINGS = {
    b"\xef\xbb\xbf": "a byte order mark (EF BB BF)",
    b"\xff\xfe\x00\x00": "the byte order mark of UTF-32",
    b"\x00\x00\xfe\xff": "the byte order mark of UTF-32",
    b"\xff\xfe": "the byte order mark of UTF-16",
    b"\xfe\xff": "the byte order mark of UTF-16",
    b"\x1f\x8b": "the first bytes of gzip (1F 8B)",
    b"\x28\xb5\x2f\xfd": "the first bytes of zstd",
    b"\x04\x22\x4d\x18": "the first bytes of lz4",
    b"\xff\x06\x00\x00sNaPpY": "the first bytes of snappy",
    b"\x82SNAPPY\x00": "the first bytes of snappy",
    b"\x78\x01": "the first bytes of zlib (deflate)",
    b"\x78\x9c": "the first bytes of zlib (deflate)",
    b"\x78\xda": "the first bytes of zlib (deflate)",
    b"BZh": "the first bytes of bzip2",
    b"\xfd7zXZ\x00": "the first bytes of xz",
    b"PK\x03\x04": "the first bytes of a ZIP file",
    b"Obj\x01": "the first bytes of an Avro file",
    b"\xc3\x01": "the marker of a single Avro object (C3 01)",
    b"\xac\xed\x00\x05": "the first bytes of a serialized Java object",
    b"\xd9\xd9\xf7": "the first bytes of CBOR",
    b"\x1e": "a record separator (1E), as a JSON text sequence has it",
    b"<": "`<`, as XML and HTML do",
}

PROTOBUF_TEXT = 0x0A  # field 1, a text; in JSON a line feed


def beginning_of(raw: bytes) -> str | None:
    """What the bytes begin with, as a sentence goes on after "it begins with"; None when they do not show it."""
    known = next((what for start, what in BEGINNINGS.items() if raw.startswith(start)), None)
    return known or _wide(raw) or _framed(raw) or _binary(raw)


def _wide(raw: bytes) -> str | None:
    """Text of two or four bytes a character without a mark: JSON begins with ASCII."""
    for name, width in (("utf-32-be", 4), ("utf-32-le", 4), ("utf-16-be", 2), ("utf-16-le", 2)):
        start = raw[: 2 * width]
        if len(start) == 2 * width and _is_ascii_text(start, name):
            return f"text in {name[:6].upper()}"
    return None


def _is_ascii_text(start: bytes, encoding: str) -> bool:
    try:
        text = start.decode(encoding)
    except UnicodeDecodeError:
        return False
    return text[0] in '{["\n\r\t ' and all(" " <= c <= "~" or c in "\n\r\t" for c in text)


def _framed(raw: bytes) -> str | None:
    if len(raw) <= LENGTH or raw[0] != 0:
        return None
    schema = int.from_bytes(raw[1:LENGTH], "big")
    inside = "JSON" if raw[LENGTH:].lstrip()[:1] in (b"{", b"[") else "no JSON (Avro or Protobuf, perhaps)"
    return f"the magic byte 0 of Confluent's Schema Registry and schema id {schema}, before {inside}"


def _binary(raw: bytes) -> str | None:
    """Protobuf's first field when it is a text, and MessagePack's or CBOR's small map with a text as its first key."""
    if len(raw) < 4:
        return None
    if raw[0] == PROTOBUF_TEXT and raw[1] < 0x80 and 2 + raw[1] <= len(raw) and not _may_be_json(raw):
        return "what looks like Protobuf"
    if 0x80 <= raw[0] <= 0x8F and 0xA0 <= raw[1] <= 0xBF:
        return "what looks like MessagePack"
    if 0xA1 <= raw[0] <= 0xBF and 0x60 <= raw[1] <= 0x7F:
        return "what looks like CBOR"
    return None


def _may_be_json(raw: bytes) -> bool:
    return raw.lstrip()[:1] in b'{["-0123456789tfn'
