"""Times in JSON that say more than a moment to the microsecond: a longer fraction, or a leap second (decision 10).

The decoder would round the one, perhaps into another year, and refuse the other, which RFC 3339 knows. So such a time
is cut down to the last microsecond that it has begun, in the text, before anything else looks at it.
"""

import re

import msgspec

from contracts.validation.repeated_keys import BACKSLASH

# Date, hour and minute; second; digits of the fraction; offset.
_time = re.compile(r"([0-9-]{10}[Tt ]([0-9]{2}):([0-9]{2}):)([0-9]{2})(?:\.([0-9]+))?([Zz]|[+-][0-9]{2}:?[0-9]{2})")
# What begins a time that is finer than a microsecond, or what looks like it.
_long_fraction = re.compile(rb"\.[0-9]{7}").search
_fine = re.compile(rb":[0-9]{2}\.[0-9]{7}").search
_hidden = re.compile(rb"\\u00[23]").search  # a digit, a colon or a point, as an escape
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


def surely_no_time_is_cut(raw: bytes) -> bool:
    """Whether no time in JSON that could be decoded is finer than a microsecond, beyond doubt. `raw`: one or many."""
    if BACKSLASH in raw and _hidden(raw) is not None:
        return False
    return _long_fraction(raw) is None or _fine(raw) is None  # the first is twice as quick


def with_times_cut(value: bytes) -> bytes:
    """An event's JSON with its times cut; all else, and what is no JSON object, stays as it is."""
    try:
        fields = _fields(value)
        found = _cut_field(fields, "timestamp")
        if bytes(fields.get("_metadata", b""))[:1] == b"{":
            metadata = _fields(fields["_metadata"])
            if _cut_field(metadata, "migrated_at"):
                fields["_metadata"], found = msgspec.Raw(_encode(metadata)), True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return value  # another check names it
    return _encode(fields) if found else value


def cut(text: str) -> str:
    """An ISO-8601 time cut to what microseconds hold: longer fractions end, and a leap second is the moment before.

    Anything else comes back unchanged, also what is no time: `23:59:60Z` at another offset's midnight is none.
    """
    found = _time.fullmatch(text)
    if found is None:
        return text
    start, hour, minute, second, fraction, offset = found.groups()
    if second == "60" and (int(hour) * 60 + int(minute) - _minutes(offset)) % 1440 == 1439:
        return f"{start}59.999999{offset}"
    return text if fraction is None or len(fraction) <= 6 else f"{start}{second}.{fraction[:6]}{offset}"


def _minutes(offset: str) -> int:
    if offset in "Zz":
        return 0
    return (-1 if offset[0] == "-" else 1) * (int(offset[1:3]) * 60 + int(offset[-2:]))


def _cut_field(fields: dict[str, msgspec.Raw], name: str) -> bool:
    """Cuts the time in this field; whether there was something to cut."""
    raw = fields.get(name)
    if raw is None or bytes(raw)[:1] != b'"':
        return False
    text = _text(raw)
    shorter = cut(text)
    fields[name] = msgspec.Raw(_encode(shorter))
    return shorter != text
