"""Many events at once: the projector's usual case, at a third of the cost of one by one (docs/performance.md).

When every value is plainly a valid event of version 1, a few calls of C decode, check and render all of them. Any doubt
is None; then each value is judged by itself, with the sentences of `rules.py`. Batches of commands go the same way, see
`fast_commands.py`.
"""

from collections.abc import Sequence
from datetime import UTC
from itertools import chain
from typing import cast

import msgspec

from contracts.event import MAX_PAYLOAD_BYTES, ActivityCommand, UserEvent
from contracts.types import is_type_name
from contracts.validation.payloads import ValuesCheck, values_are_surely_valid
from contracts.validation.rules import GROWTH
from contracts.validation.times import surely_no_time_is_cut
from contracts.versions import PUBLISHED, UserEventV1, at_full_width, upcast_v1
from contracts.wire.frames import MAGIC, unframed

# Values of these types are valid whatever they are.
PLAIN = {str, bool, type(None)}

# The shipped types are decoded without a text for each event. A batch with another type fails at its first.
_decode_named_lines = msgspec.json.Decoder(PUBLISHED["1"]).decode_lines
_decode_lines = msgspec.json.Decoder(UserEventV1).decode_lines
_encode_lines = msgspec.json.Encoder().encode_lines


class ValidEvents(msgspec.Struct, frozen=True):
    """Events as the newest version, and each one's JSON as `encode_event` renders it, in the order of their values."""

    events: list[UserEvent]
    rendered: list[bytes]


def validate_events_fast(values: Sequence[bytes | None]) -> ValidEvents | None:
    """What `validate_complete_user_event` makes of each value, if all are plainly valid and of version 1."""
    if None in values:
        return None
    present = cast("Sequence[bytes]", values)
    found = None if present[0].startswith(MAGIC) else _validated(present)
    if found is None and any(value.startswith(MAGIC) for value in present):
        return _validated(list(map(unframed, present)))
    return found


def _validated(values: Sequence[bytes]) -> ValidEvents | None:
    lines = objects_on_lines(values)
    if lines is None or lines.find(b"\\u0000") >= 0 or _is_long(values):
        return None
    written = _decoded(lines)
    if written is None or len(written) != len(values) or not _are_surely_valid(written, lines):
        return None
    as_rendered = _encode_lines(written)[:-1]
    if as_rendered != lines and not surely_no_time_is_cut(lines):  # our own records are as they are rendered
        return None
    return ValidEvents(list(map(upcast_v1, written)), _at_full_width(written, as_rendered.split(b"\n")))


def _decoded(lines: bytes) -> list[UserEventV1] | None:
    try:
        return cast("list[UserEventV1]", _decode_named_lines(lines))
    except msgspec.ValidationError:
        pass
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    try:
        written = _decode_lines(lines)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return written if all(map(is_type_name, {event.event_type for event in written})) else None


def _at_full_width(written: Sequence[UserEventV1], rendered: list[bytes]) -> list[bytes]:
    if 0 not in [event.timestamp.microsecond for event in written]:
        return rendered
    return [at_full_width(text, event.timestamp) for event, text in zip(written, rendered, strict=True)]


def objects_on_lines(values: Sequence[bytes]) -> bytes | None:
    """The values as lines of JSON. If as many objects are decoded from them as there are values, each stands for one.

    No value holds a line feed, and one object ends and another begins at each: `}` and `{` never meet within JSON.
    """
    lines = b"\n".join(values)
    return lines if lines.count(b"\n") == lines.count(b"}\n{") == len(values) - 1 else None


def _is_long(values: Sequence[bytes]) -> bool:
    return max(map(len, values)) > MAX_PAYLOAD_BYTES // GROWTH


def _are_surely_valid(written: Sequence[UserEventV1], lines: bytes) -> bool:
    return {event.timestamp.tzinfo for event in written} == {UTC} and all_surely_valid(written, lines)


def all_surely_valid(
    decoded: Sequence[UserEventV1 | ActivityCommand], raw: bytes, are_valid: ValuesCheck = values_are_surely_valid
) -> bool:
    """Whether users, and the depth and numbers of payloads, are within their bounds beyond doubt. `raw`: their text."""
    if not "".join([one.user_id for one in decoded]).isprintable():
        return False
    values = list(chain.from_iterable([one.payload.values() for one in decoded]))
    # One look at each value's type; what is not plain is judged as `rules.py` does, each value in a list of its own.
    if set(map(type, values)) <= PLAIN:
        return True
    return are_valid([value for value in values if type(value) not in PLAIN], raw)
