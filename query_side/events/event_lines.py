"""The lines that events are rendered from: each is the JSON of one event."""

import msgspec


class EventLine(msgspec.Struct, rename="camel", gc=False):
    """An event as a line has it; `payload` as JSON text."""

    event_id: str
    user_id: str
    event_type: str
    timestamp: str
    payload: msgspec.Raw


# Python's `splitlines`, and the clients built on it, end a line at these too (JSON lets them stand in a string).
LINE_ENDS = (("\u0085", "\\u0085"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029"))
LINE_ENDS_UTF8 = [(end.encode(), escape.encode()) for end, escape in LINE_ENDS]


def one_line(event: str) -> str:
    """The same JSON, without what some readers take for the end of a line."""
    if not event.isascii():  # which costs nothing to know
        for end, escape in LINE_ENDS:
            event = event.replace(end, escape)
    return event


def whole_lines(lines: bytes) -> bytes:
    """As `one_line`, of many lines in UTF-8."""
    if not lines.isascii():
        for end, escape in LINE_ENDS_UTF8:
            lines = lines.replace(end, escape)
    return lines


lines_decoder = msgspec.json.Decoder(EventLine)
