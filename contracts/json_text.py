"""What a decoder cannot say about JSON: what only its text shows, and how deep and how large its values are."""

import json
import re
from typing import Any, NoReturn

import msgspec

# Text with sound escapes; or group 1: one that is half of a surrogate pair (RFC 8259, section 7). A run of text is one
# match, so that a body of nothing but escapes costs no call for each.
ESCAPE = re.compile(
    rb"(?:[^\\]|\\u[dD][89abAB]%b\\u[dD][c-fC-F]%b|\\(?!u[dD][89a-fA-F]%b).)++|(\\u[dD][89a-fA-F]%b)"
    % ((rb"[0-9a-fA-F]{2}",) * 4)
)

MANY_ZEROS = b"0" * 320  # no double but zero is below 10^-324
# The beginning of a number with a negative exponent, which only such a character precedes; or of a text like it.
_small_number = re.compile(rb"[:,\[\s]-?[0-9][0-9.]*[eE]-").search


def decoded(raw: bytes) -> tuple[Any, list[str]]:
    """The JSON's value, and what had to be set aside to decode it. Raises msgspec.DecodeError and its like."""
    try:
        return msgspec.json.decode(raw), []
    except msgspec.ValidationError:  # msgspec's word for a number that does not fit a double
        try:
            # Any number will do in place of the text's: its problem is named already.
            return json.loads(raw, parse_float=len, parse_int=len), ["A number is too large; send it as a string."]
        except json.JSONDecodeError as error:  # it is not even JSON behind that number
            raise msgspec.DecodeError(error.msg.lower()) from error


def without_lone_surrogates(raw: bytes) -> bytes:
    """The same text with each escaped half of a surrogate pair replaced, so that every other problem can be named."""
    return ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], raw)


def depth_of(value: Any) -> int:
    """Levels of nesting, without recursion of our own: hostile depth must not exhaust the stack."""
    deepest, pending = 0, [(value, 1)]
    while pending:
        container, level = pending.pop()
        deepest = max(deepest, level)
        pending += [(child, level + 1) for child in _children(container) if type(child) in (dict, list)]
    return deepest


def leaves(value: Any, kind: type) -> list[Any]:
    found, pending = [], [value]
    while pending:
        item = pending.pop()
        if type(item) is kind:
            found.append(item)
        pending += _children(item)
    return found


def _children(item: Any) -> list[Any]:
    if type(item) is dict:
        return list(item.values())
    return item if type(item) is list else []


def text_problems(raw: bytes) -> list[str]:
    """Problems that only the text shows: U+0000 in any string (PostgreSQL has none) and numbers that vanish."""
    problems: set[str] = set()

    def number(text: str) -> float:
        value = float(text)
        if value == 0 and text.lower().split("e")[0].strip("-0."):
            problems.add("A number is too small to be told from zero; send it as a string.")
        return value

    def constant(_: str) -> NoReturn:
        raise ValueError

    try:
        parsed = json.loads(raw, parse_float=number, parse_int=len, parse_constant=constant)
    except (ValueError, RecursionError):  # another check names it better
        return sorted(problems)
    if _has_nul(parsed):
        problems.add("A string contains the character U+0000, which cannot be stored.")
    return sorted(problems)


def surely_no_number_vanishes(raw: bytes) -> bool:
    """Whether every zero was written as one, beyond doubt; under 0.2 us for a usual event."""
    if MANY_ZEROS in raw:
        return False
    return (b"e-" not in raw and b"E-" not in raw) or _small_number(raw) is None


def _has_nul(parsed: Any) -> bool:
    pending = [parsed]
    while pending:
        item = pending.pop()
        if type(item) is str and "\0" in item:
            return True
        if type(item) is dict:
            pending += item.keys()
        pending += _children(item)
    return False
