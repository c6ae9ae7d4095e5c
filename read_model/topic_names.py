"""The names of a topic that is rewritten: `events`, `events.1`, `events.2` (docs/decisions/0043)."""

import re
from collections.abc import Iterator

NUMBERED = re.compile(r"(?P<first>.+)\.(?P<number>[1-9][0-9]{0,2})", re.DOTALL)


def next_name(topic: str, number: int) -> str:
    """Returns the name that the topic gets by its rewrite number `number`."""
    return f"{topic.removesuffix(f'.{number - 1}')}.{number}"


def names_before(topic: str) -> Iterator[str]:
    """Yields the names that the topic may have had before it was rewritten, the newest first."""
    found = NUMBERED.fullmatch(topic)
    if found is not None:
        for number in range(int(found["number"]) - 1, 0, -1):
            yield f"{found['first']}.{number}"
        yield found["first"]
