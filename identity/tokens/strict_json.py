"""JSON objects that have one meaning: no name twice, no NaN, nothing deep."""

import json
from typing import Any, Never


def decode_object(text: bytes) -> dict[str, Any]:
    """Decodes a JSON object in UTF-8. Raises ValueError for anything that two parsers could read in two ways."""
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name is there twice")
    return value


def _no_number(name: str) -> Never:
    raise ValueError(f"{name} is no number")
