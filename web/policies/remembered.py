"""A bounded memory of what was used of late, with a hit that costs one look-up."""

from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """Keeps at least the `size` / 2 entries that were used last, and never more than `size`.

    Two halves: what is used moves to the young one; when that is full it becomes the old one, whose entries are
    forgotten. A hit among the young ones moves nothing.
    """

    __slots__ = ("_half", "_old", "young")

    def __init__(self, size: int) -> None:
        self._half = size // 2
        self.young: dict[Key, Value] = {}
        self._old: dict[Key, Value] = {}

    def get(self, key: Key) -> Value | None:
        """The value of a key, which is young again; None: it is not there."""
        found = self.young.get(key)
        if found is None and self._old:
            found = self._old.pop(key, None)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: Key, value: Value) -> None:
        """Keeps a value, and forgets the oldest if there are too many."""
        if self._half == 0:
            return
        if len(self.young) >= self._half:
            self._old, self.young = self.young, {}
        self.young[key] = value

    def clear(self) -> None:
        """Forgets everything."""
        self.young, self._old = {}, {}

    def __len__(self) -> int:
        return len(self.young) + len(self._old)
