"""A bounded memory of what was used lately."""

from collections.abc import Iterable, Iterator
from datetime import datetime
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


Made = tuple[datetime, str]  # when a subject was made, and its name


class Witnesses:
    """Some subjects whose loss tells of that of any other: a store that was restored lacks all that were made later.

    Of those that are learned between two looks they are the first and the last that were made: the last one may have
    been made after a restore. Of too many, every second is left out, and the later ones stay.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._names: list[str] = []
        self._since: list[Made] = []  # the look before: the first one, and the last one

    def learned(self, one: Made) -> None:
        """Another subject is remembered."""
        self._since = [min(one, *self._since), max(one, *self._since)] if self._since else [one, one]

    def look(self) -> list[str]:
        """The witnesses. What is learned from now on has others."""
        self._names += [name for _, name in self._since]
        self._since = []
        if len(self._names) > self._limit:
            self._names = self._names[::-2][::-1]
        return self._names

    def begin_anew(self, remembered: Iterable[Made]) -> None:
        """Takes them from these."""
        names = [name for _, name in sorted(remembered)]
        self._names = names[:: -(len(names) // self._limit + 1)][::-1]
        self._since = []
