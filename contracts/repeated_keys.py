"""Whether JSON repeats a key within one object: decoders keep the last value and say nothing.

The exact answer takes a second parse. A proof that no key is repeated is usually cheaper, because each key is followed
by one colon outside of strings:

    colons in the text  >=  keys in the text  >=  keys that were decoded

So when the first equals the last no key was dropped. Colons within strings (URLs, times) are subtracted; an escape can
hide a colon from the text, so a backslash leaves it to the second parse.
"""

import json
from typing import Any

from contracts.event import ActivityCommand

Container = dict[str, Any] | list[Any]


def surely_repeats_no_key(command: ActivityCommand, raw: bytes) -> bool:
    """True beyond doubt, when `raw` was decoded to `command`, whose payload is of a bounded depth; under 1 us."""
    payload = command.payload
    keys = (3 if payload or _has_empty_payload(command, raw) else 2) + _keys_in(payload)
    colons = raw.count(b":")
    if colons == keys:
        return True
    if b"\\" in raw:
        return False
    return colons - command.user_id.count(":") - _colons_in(payload) == keys


def _has_empty_payload(command: ActivityCommand, raw: bytes) -> bool:
    """False in doubt. Without escapes a quoted word is a whole string, and only `userId` could hold that one too."""
    return b'"payload"' in raw and command.user_id != "payload" and b"\\" not in raw


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


def _colons_in(container: Container) -> int:
    values: Any = container
    count = 0
    if type(container) is dict:
        values = container.values()
        count = sum(key.count(":") for key in container)
    for value in values:
        if type(value) is str:
            count += value.count(":")
        elif type(value) is dict or type(value) is list:
            count += _colons_in(value)
    return count
