"""The choice among formats and encodings that a client's headers make (RFC 9110, 12.4 and 12.5)."""

from collections.abc import Sequence

from web.policies.decisions import RefusedError

JSON = "application/json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
MEDIA_TYPES = (JSON, NDJSON, CSV, ARROW, PARQUET)  # where a client likes several equally, the first

MAX_ELEMENTS = 32  # that are looked at in one header


def chosen(accept: bytes | None, offered: Sequence[str] = MEDIA_TYPES) -> str:
    """The media type to answer in, for the value of `Accept`. Raises RefusedError, 406, when none is acceptable."""
    if accept is None or accept in (b"*/*", b"application/json", b""):
        return offered[0]
    ranges = weighted(accept)
    quality, _, best = max((_quality(kind, ranges), -index, kind) for index, kind in enumerate(offered))
    if quality <= 0:
        raise RefusedError(406, f"This is answered as {' or '.join(offered)}; none of them is in Accept.")
    return best


def weighted(value: bytes) -> list[tuple[str, float]]:
    """The elements of an Accept or Accept-Encoding header, each with its q; a malformed q counts as 0."""
    found = []
    for element in value.decode("latin-1").lower().split(",")[:MAX_ELEMENTS]:
        name, *parameters = (part.strip() for part in element.split(";"))
        found.append((name, min((_q(part) for part in parameters if part.startswith("q=")), default=1.0)))
    return found


def _q(parameter: str) -> float:
    digits = parameter[2:]
    is_number = digits.replace(".", "", 1).isdigit() and digits.isascii() and len(digits) <= 5
    return min(float(digits), 1.0) if is_number else 0.0


def _quality(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The q of the most specific range that the type is in; 0: in none."""
    for pattern in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        found = [quality for name, quality in ranges if name == pattern]
        if found:
            return max(found)
    return 0.0
