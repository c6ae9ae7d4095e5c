"""A bounded memory of what was used lately."""

from collections.abc import Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """At most `limit` values. What was not used while half as many others were learned may be forgotten.

    Two halves instead of an order of use: a hit in the newer one is a single look into a dict.
    """

    def __init__(self, limit: int) -> None:
        self._half = max(1, limit // 2)
        self._newer: dict[Key, Value] = {}
        self._older: dict[Key, Value] = {}

    def get(self, key: Key) -> Value | None:
        """The value, or None."""
        found = self._newer.get(key)
        if found is None:
            found = self._older.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: Key, value: Value) -> None:
        """Remembers a value."""
        if len(self._newer) >= self._half:
            self._older, self._newer = self._newer, {}
        self._newer[key] = value

    def drop(self, key: Key) -> None:
        """Forgets a value."""
        self._newer.pop(key, None)
        self._older.pop(key, None)

    def items(self) -> Iterator[tuple[Key, Value]]:
        """Everything that is remembered, as of now."""
        yield from list(self._older.items())
        yield from list(self._newer.items())

    def values(self) -> Iterator[Value]:
        """Every value that is remembered, as of now."""
        return (value for _, value in self.items())
