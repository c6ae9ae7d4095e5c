"""gzip at level 1 for aiokafka's batches, which it otherwise compresses at level 9.

Level 9 took ten times as long as level 1 in the event loop (docs/performance.md), for batches that are a fifth smaller.
What is small, an event or two, is wrapped as it is: to compress it took ten times as long, and saved 130 bytes.
aiokafka 0.14 has no option for the level, so its function is replaced where its record builder looks it up; in another
release, or where that place is gone, everything stays as it was. `tests/unit/test_quick_gzip.py` watches the place.
"""

import importlib
import zlib
from importlib.metadata import version
from typing import Any

LEVEL = 1
SMALL = 1_024  # bytes; below, nothing is compressed
LEAST_WINDOW, LEAST_MEMORY = 25, 1  # zlib's `wbits` for gzip of 512 bytes, and `memLevel`: nothing to make ready
GZIP_FORMAT = 31  # zlib's `wbits` for a gzip header and trailer
KNOWN_RELEASE = "0.14."
BUILDERS = ("aiokafka.record._crecords.default_records", "aiokafka.record.default_records")


def gzip_encode(payload: Any, compresslevel: int | None = None) -> bytes:
    """aiokafka's function of this name, with a quicker default."""
    if compresslevel is None and len(payload) < SMALL:
        stored = zlib.compressobj(0, zlib.DEFLATED, LEAST_WINDOW, LEAST_MEMORY)
        return stored.compress(payload) + stored.flush()
    return zlib.compress(payload, compresslevel or LEVEL, GZIP_FORMAT)


def use_quick_gzip() -> bool:
    """Replaces the function; False, and nothing changed, where aiokafka is not as it was known."""
    if not version("aiokafka").startswith(KNOWN_RELEASE):
        return False
    replaced = False
    for name in BUILDERS:
        try:
            builder = importlib.import_module(name)
        except ImportError:  # no compiled extension on this platform
            continue
        if hasattr(builder, "gzip_encode"):
            builder.gzip_encode = gzip_encode  # type: ignore[attr-defined]
            replaced = True
    return replaced
