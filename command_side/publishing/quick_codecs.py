"""Quicker gzip and zstd for aiokafka's batches, which it otherwise compresses at levels 9 and 3.

gzip: level 9 took ten times as long as level 1 in the event loop (docs/performance.md), for batches that are a fifth
smaller. zstd: level 3 takes a third longer than level 1, for batches that are as large. What is small, an event or two,
is wrapped as it is: to compress it took ten times as long, and saved 130 to 200 bytes.

aiokafka 0.14 has no option for the level, so its functions are replaced where its record builder looks them up; in
another release, or where that place is gone, everything stays as it was. `tests/unit/test_quick_codecs.py` watches the
place.
"""

import importlib
import struct
import zlib
from importlib.metadata import version
from typing import Any

from aiokafka import codec

LEVEL = 1  # of gzip and of zstd
SMALL = 1_024  # bytes; below, nothing is compressed
LEAST_WINDOW, LEAST_MEMORY = 25, 1  # zlib's `wbits` for gzip of 512 bytes, and `memLevel`: nothing to make ready
GZIP_FORMAT = 31  # zlib's `wbits` for a gzip header and trailer
KNOWN_RELEASE = "0.14."
BUILDERS = ("aiokafka.record._crecords.default_records", "aiokafka.record.default_records")

# RFC 8878, 3.1.1: a frame of one segment that tells its size in one byte, or, less 256, in two; one last, raw block.
_tiny, _small = struct.Struct("<IBBI").pack, struct.Struct("<IBHI").pack
ZSTD_MAGIC, ONE_BYTE, TWO_BYTES, LAST_RAW_BLOCK = 0xFD2FB528, 0x20, 0x60, 1


def gzip_encode(payload: Any, compresslevel: int | None = None) -> bytes:
    """aiokafka's function of this name, with a quicker default."""
    if compresslevel is None and len(payload) < SMALL:
        stored = zlib.compressobj(0, zlib.DEFLATED, LEAST_WINDOW, LEAST_MEMORY)
        return stored.compress(payload) + stored.flush()
    return zlib.compress(payload, compresslevel or LEVEL, GZIP_FORMAT)


def zstd_encode(payload: Any, level: int | None = None) -> bytes:
    """aiokafka's function of this name, with a quicker default."""
    size = len(payload)
    if level is not None or size >= SMALL:
        return bytes(codec.zstd_encode(payload, level or LEVEL))
    block = size << 3 | LAST_RAW_BLOCK  # 3 bytes: the last of four is cut off
    head = _tiny(ZSTD_MAGIC, ONE_BYTE, size, block) if size < 256 else _small(ZSTD_MAGIC, TWO_BYTES, size - 256, block)
    return head[:-1] + bytes(payload)


def use_quick_codecs() -> bool:
    """Replaces the functions; False, and nothing changed, where aiokafka is not as it was known."""
    if not version("aiokafka").startswith(KNOWN_RELEASE):
        return False
    replaced = False
    for name in BUILDERS:
        try:
            builder: Any = importlib.import_module(name)
        except ImportError:  # no compiled extension on this platform
            continue
        if hasattr(builder, "gzip_encode") and hasattr(builder, "zstd_encode"):
            builder.gzip_encode, builder.zstd_encode = gzip_encode, zstd_encode
            replaced = True
    return replaced
