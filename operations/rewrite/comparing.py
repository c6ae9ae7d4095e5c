"""Compares a topic with its copy, record by record: what was replaced, and that all else has the same bytes."""

from collections.abc import AsyncIterator, Callable, Mapping

import msgspec
from aiokafka.structs import ConsumerRecord

from contracts.blank import BLANK
from operations.rewrite.reading import Reader
from operations.rewrite.substitutes import Copy, Kind

Substitute = Callable[[ConsumerRecord], Copy]


class Compared(msgspec.Struct):
    """What a comparison of one partition found, from `begin` to `end`.

    `kinds`: how many records became what. `gaps`: offsets at which the old topic has no record. `differs`: the first
    offset at which the copy is not what it must be.
    """

    topic: str
    partition: int
    begin: int
    end: int
    kinds: dict[Kind, int] = msgspec.field(default_factory=dict)
    gaps: int = 0
    differs: int | None = None

    @property
    def equal(self) -> bool:
        """Whether the copy is what it must be."""
        return self.differs is None


class DifferentError(Exception):
    """A copy is not what it must be."""

    def __init__(self, target: str, found: Compared) -> None:
        super().__init__(
            f"Partition {found.partition} of {target} differs from {found.topic} at offset {found.differs}: it is no "
            "copy. Nothing was switched or deleted. To begin anew: footfall privacy rewrite abandon"
        )


async def compare(
    reader: Reader, pair: tuple[str, str], partition: int, span: tuple[int, int], substitute: Substitute
) -> Compared:
    """Compares the records of one partition between two offsets."""
    source, target = pair
    begin, end = span
    found = Compared(source, partition, begin, end)
    old = reader.records(source, partition, begin, end)
    waiting = await anext(old, None)
    at = begin
    async for copy in reader.records(target, partition, begin, end):
        expected = None
        if waiting is not None and waiting.offset == at:
            expected, waiting = substitute(waiting), await anext(old, None)
        if copy.offset != at or not _is(copy, expected):
            return msgspec.structs.replace(found, differs=at)
        _count(found, expected)
        at += 1
    return found if at >= end else msgspec.structs.replace(found, differs=at)


def _count(found: Compared, copy: Copy | None) -> None:
    if copy is None:
        found.gaps += 1
    else:
        found.kinds[copy.kind] = found.kinds.get(copy.kind, 0) + 1


def _is(record: ConsumerRecord, copy: Copy | None) -> bool:
    if copy is None:  # of a gap, whenever it was filled
        return bool(record.value == BLANK)
    told = (record.key, record.value, [(name, value) for name, value in record.headers], record.timestamp)
    wanted = (copy.key, copy.value, [(name, value) for name, value in copy.headers], copy.timestamp)
    return told == wanted


async def compared(
    reader: Reader,
    pair: tuple[str, str],
    begins: Mapping[int, int],
    ends: Mapping[int, int],
    substitute: Substitute,
) -> AsyncIterator[Compared]:
    """Yields the comparison of each partition. Raises DifferentError at the first that differs."""
    for partition, end in ends.items():
        found = await compare(reader, pair, partition, (begins.get(partition, 0), end), substitute)
        if not found.equal:
            raise DifferentError(pair[1], found)
        yield found
