"""How Footfall writes a time: ISO-8601 in UTC with `Z`, and always six digits of the second (decision 10).

At one width the order of texts is the order of times, and every reader of a table of them guesses one format.
"""

from datetime import datetime
from typing import Annotated, Any

import msgspec

WireTime = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]


def wire_time(moment: datetime) -> str:
    """A moment in UTC as text."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def wire_time_or_none(moment: datetime | None) -> str | None:
    """As `wire_time`, of what may not have happened."""
    return None if moment is None else wire_time(moment)


def encoded(document: Any) -> bytes:
    """A document as JSON, its times at full width. Goes through all of it: for what is small."""
    return msgspec.json.encode(_written(msgspec.to_builtins(document, builtin_types=(datetime, msgspec.Raw))))


def _written(value: Any) -> Any:
    if isinstance(value, datetime):
        return wire_time(value)
    if isinstance(value, dict):
        return {name: _written(inner) for name, inner in value.items()}
    return [_written(inner) for inner in value] if isinstance(value, list | tuple) else value
