"""gzip, where the client takes it and it pays (RFC 9110, 12.5.3)."""

import zlib

from query_side.api.negotiation import weighted

LEVEL = 1  # events shrink to a sixth at level 9 and to less than a fifth at level 1, which takes a seventh of the time
LEAST_BYTES = 1_400  # below, the answer travels in one packet anyway
GZIP_CONTAINER = 16 + zlib.MAX_WBITS
VARY = (b"vary", b"accept, accept-encoding")
ENCODED = (b"content-encoding", b"gzip")


def takes_gzip(accept_encoding: bytes | None) -> bool:
    """Whether the value of `Accept-Encoding` allows gzip."""
    if accept_encoding is None:
        return False
    found = dict(weighted(accept_encoding))
    return found.get("gzip", found.get("*", 0.0)) > 0


class Gzip:
    """One compressed answer."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP_CONTAINER)

    def more(self, data: bytes) -> bytes:
        """What of the answer is ready after these bytes; may be nothing yet."""
        return self._compressor.compress(data)

    def end(self, data: bytes) -> bytes:
        """The last of it."""
        return self._compressor.compress(data) + self._compressor.flush()
