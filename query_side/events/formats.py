"""The formats in which events are answered.

Each format is rendered from the same thing: lines, each of which is the JSON of one event. Nothing is kept between two
chunks of lines but what the format itself needs.
"""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Protocol

from query_side.api.negotiation import ARROW, CSV, JSON, NDJSON, PARQUET
from query_side.events.event_lines import lines_decoder, whole_lines

FORMATS = {"json": JSON, "ndjson": NDJSON, "csv": CSV, "arrow": ARROW, "parquet": PARQUET}  # as `format` names them
FILE_NAMES = {NDJSON: "events.ndjson", CSV: "events.csv", ARROW: "events.arrows", PARQUET: "events.parquet"}
CSV_CELLS = ("safe", "raw")

CSV_HEADER = ("eventId", "userId", "eventType", "timestamp", "payload")
# A spreadsheet takes a cell that begins so for a formula (OWASP, "CSV Injection").
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
ESCAPED_STARTS = ("'", *FORMULA_STARTS)  # the quote too, so that who takes one away has the text again


class Rendering(Protocol):
    """One answer in one format. `slow`: rendering some 500 KiB of lines takes milliseconds."""

    content_type: bytes
    compressible: bool
    slow: bool

    def rows(self, lines: bytes) -> bytes:
        """The next events: at least one whole line."""
        ...

    def end(self) -> bytes:
        """What comes after the last event."""
        ...


class JsonArray:
    """One JSON array; an event a line."""

    content_type = JSON.encode()
    compressible = True
    slow = False

    def __init__(self) -> None:
        self._opened = False

    def rows(self, lines: bytes) -> bytes:
        """The next elements."""
        before = b",\n" if self._opened else b"["
        self._opened = True
        return before + lines[:-1].replace(b"\n", b",\n")

    def end(self) -> bytes:
        """The closing bracket."""
        return b"]" if self._opened else b"[]"


def json_array(events: Sequence[str]) -> bytes:
    """What `JsonArray` makes of these events, in one go: most pages are this."""
    return b"[" + ",\n".join(events).encode() + b"]"


class JsonLines:
    """Newline-delimited JSON: the lines as they are, but for what some readers take for the end of one."""

    content_type = NDJSON.encode()
    compressible = True
    slow = False

    def rows(self, lines: bytes) -> bytes:
        """The lines."""
        return whole_lines(lines)

    def end(self) -> bytes:
        """Nothing."""
        return b""


class Csv:
    """RFC 4180 with a header; unless `raw`, `'` before each user id that begins with it or as formulas do."""

    content_type = b"text/csv; charset=utf-8; header=present"
    compressible = True
    slow = True

    def __init__(self, *, raw: bool = False) -> None:
        self._head = ",".join(CSV_HEADER) + "\r\n"
        self._cell: Callable[[str], str] = str if raw else safe_cell

    def rows(self, lines: bytes) -> bytes:
        """The next rows, the header before the first of them."""
        out = io.StringIO()
        csv.writer(out).writerows(
            (one.event_id, self._cell(one.user_id), one.event_type, one.timestamp, bytes(one.payload).decode())
            for one in lines_decoder.decode_lines(lines)
        )
        head, self._head = self._head, ""
        return (head + out.getvalue()).encode()

    def end(self) -> bytes:
        """The header, if there was no row."""
        return self._head.encode()


def safe_cell(text: str) -> str:
    """The text as no spreadsheet takes it for a formula; without its first `'`, if it has one, the text again."""
    return f"'{text}" if text.startswith(ESCAPED_STARTS) else text


def arrow() -> Rendering:
    """An Arrow IPC stream. pyarrow is loaded when it is first asked for: it takes some 40 MiB."""
    from query_side.events.arrow_formats import ArrowStream  # noqa: PLC0415

    return ArrowStream()


def parquet() -> Rendering:
    """A Parquet file. pyarrow is loaded when it is first asked for."""
    from query_side.events.arrow_formats import ParquetFile  # noqa: PLC0415

    return ParquetFile()


def raw_csv() -> Rendering:
    """CSV for programs: every cell as it is."""
    return Csv(raw=True)


RENDERINGS: dict[str, Callable[[], Rendering]] = {
    JSON: JsonArray,
    NDJSON: JsonLines,
    CSV: Csv,
    ARROW: arrow,
    PARQUET: parquet,
}
