"""Whether JSON repeats a key within one object: decoders keep the last value and say nothing.

The exact answer takes a second parse. A proof that no key is repeated is usually cheaper, as the text may show how many
keys it has. Without a backslash a quotation mark within a string cannot be, so a mark and a colon after it end a key;
and unless there is white space before some colon, all keys end so. No key was dropped if as many were decoded.
"""

import json
import re
from typing import Any

from contracts.event import ActivityCommand

BACKSLASH = ord("\\")  # `b"\\" in raw` takes eight times as long: `in` tries first whether it looks for a number
_space_before_colon = re.compile(rb"[ \n\t\r]:").search
Container = dict[str, Any] | list[Any]


def surely_repeats_no_key(command: ActivityCommand, raw: bytes) -> bool:
    """True beyond doubt, when `raw` was decoded to `command`, whose payload is of a bounded depth; under 1 us."""
    payload = command.payload
    keys = (3 if payload or _has_empty_payload(command, raw) else 2) + _keys_in(payload)
    if raw.count(b":") == keys:  # a colon at least for each key, whatever else there is
        return True
    if BACKSLASH in raw or _space_before_colon(raw) is not None:
        return False
    return raw.count(b'":') == keys


def _has_empty_payload(command: ActivityCommand, raw: bytes) -> bool:
    """False in doubt. Without escapes a quoted word is a whole string, and only `userId` could hold that one too."""
    return raw.find(b'"payload"') >= 0 and command.user_id != "payload" and BACKSLASH not in raw


def repeated_key(raw: bytes) -> str | None:
    """The first key that an object at any depth repeats. None too when `raw` is no JSON, or too deep to tell."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        if not found and len(pairs) > 1:
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    found.append(key)
                    return
                seen.add(key)

    try:
        json.loads(raw, object_pairs_hook=look, parse_int=len, parse_float=len)
    except (ValueError, RecursionError):  # another check names it
        return None
    return found[0] if found else None


def _keys_in(container: Container) -> int:
    values: Any = container
    count = 0
    if type(container) is dict:
        count, values = len(container), container.values()
    for value in values:
        if type(value) is dict or type(value) is list:
            count += _keys_in(value)
    return count
