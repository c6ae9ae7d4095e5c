"""The blank: a record that says nothing, in a topic that was rewritten (docs/decisions/0043).

It stands where the old topic has no event any more, or never had one, so that all others keep their offsets. Consumers
know it by the header `record-kind`; events have none.
"""

from contracts.erasure import HEADER_RECORD_KIND
from contracts.wire.frames import unframed

# A version newer than any event's: releases that know no blanks set it aside, and lose nothing.
BLANK = b'{"version":"2.1","recordKind":"blank"}'
BLANK_HEADERS = [(HEADER_RECORD_KIND, b"blank")]


def is_blank(value: bytes | None) -> bool:
    """Whether a record's value, framed or not, says that it is a blank."""
    return value is not None and value.endswith(BLANK) and unframed(value) == BLANK
