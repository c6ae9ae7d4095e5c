"""Turns fetched records into batches that are ready to commit."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from contracts.blank import is_blank
from contracts.erasure import erasure_of
from contracts.record import key_of
from projector.dead_letters.parking import Caps, DeadLetter, Parked
from projector.liveness.stops import Stop
from projector.privacy.erased_users import ErasedUsers, stub_id
from projector.privacy.marker import Marker, marker_of
from projector.sealed.markers import sealed_marker
from projector.sealed.records import OpenedRecord, as_in_the_log
from projector.writing.commit import Advance, Batch
from projector.writing.conflicts import distinct
from projector.writing.failure import Diagnosis
from projector.writing.fingerprint import fingerprint
from projector.writing.rows import EventRow, KafkaRecord, to_row, to_rows


class OwnedPosition(msgspec.Struct, frozen=True):
    """An owner's position in one partition: the next offset to process, and the epoch of its claim."""

    topic: str
    partition: int
    next_offset: int
    epoch: int


Part = Mapping[OwnedPosition, Sequence[KafkaRecord]]


def split_by_bytes(
    fetched: Mapping[OwnedPosition, Sequence[KafkaRecord]], max_bytes: int
) -> Iterator[dict[OwnedPosition, Sequence[KafkaRecord]]]:
    """Splits a fetch into parts of at most `max_bytes` of record values; a larger single record is a part of its own.

    Each later part of a partition starts at the position where the part before it ends, so it can be applied only after
    that part.
    """
    if sum([len(record.value or b"") for records in fetched.values() for record in records]) <= max_bytes:
        if fetched:
            yield dict(fetched)
        return
    part: dict[OwnedPosition, Sequence[KafkaRecord]] = {}
    size = 0
    for start, records in fetched.items():
        position, first = start, 0
        for index, record in enumerate(records):
            length = len(record.value or b"")
            if size + length > max_bytes and (part or index > first):
                if index > first:
                    part[position] = records[first:index]
                    position = msgspec.structs.replace(position, next_offset=records[index - 1].offset + 1)
                    first = index
                yield part
                part, size = {}, 0
            size += length
        part[position] = records[first:]
    if part:
        yield part


class Assembled(msgspec.Struct, frozen=True):
    """A batch, and the state to adopt after its commit.

    `positions_after`: the new position of each partition. `parked_after`: the parked letters of each partition that
    gained or lost some. `refused`: the partitions that must stop at their new position, and why. `rest`: the records
    that another batch has to take, from the new position of their partition on.
    """

    batch: Batch
    positions_after: list[OwnedPosition]
    parked_after: dict[int, Parked]
    refused: dict[int, Stop]
    rest: dict[OwnedPosition, Sequence[KafkaRecord]] = msgspec.field(default_factory=dict)


NOTHING_PARKED = Parked()
NOBODY_ERASED = ErasedUsers(b"", {}, frozenset())


def assemble(
    fetched: Mapping[OwnedPosition, Sequence[KafkaRecord]],
    parked: Mapping[int, Parked],
    caps: Caps,
    park_as: Diagnosis | None = None,
) -> Assembled:
    """Decodes and validates records and makes one batch of them. Pure.

    Of several records of one event, the batch keeps the first. A record whose key has a parked record is parked behind
    that record.

    Args:
        fetched: for each position, a non-empty list of records in offset order, all at or after that position.
        parked: the parked letters of each partition.
        caps: how many letters may be parked.
        park_as: the diagnosis to park with, when `fetched` is a single record that is known to be poison.
    """
    found = Assembled(Batch([], [], []), [], {}, {})
    for position, records in fetched.items():
        parked_here = parked.get(position.partition, NOTHING_PARKED)
        usual = park_as is None and not parked_here.first and not _any_discarded(records, parked_here)
        if not (usual and _add_all(found, position, records, parked_here.erased)):
            _add_one_by_one(found, position, records, parked_here, caps, park_as)
    rows = found.batch.rows
    # The set holds integers because the hash of a UUID is slow Python code. Rows are compared only if some id repeats.
    if len({row.event.event_id.int for row in rows}) != len(rows):
        _drop_duplicates(found.batch)
    return found


def _any_discarded(records: Sequence[KafkaRecord], parked: Parked) -> bool:
    return bool(parked.discarded) and any(record.offset in parked.discarded for record in records)


def _add_all(
    found: Assembled, position: OwnedPosition, records: Sequence[KafkaRecord], erased: ErasedUsers | None
) -> bool:
    """Adds all records of a partition at once, at a third of the cost; the usual case.

    Returns False, and adds nothing, unless fast validation accepts every record.
    """
    rows = to_rows(records)
    if rows is None:
        return False
    if erased is not None and records[0].offset < erased.last:
        rows = erased.stubs(rows)
    found.batch.rows.extend(rows)
    _advance(found, position, records[-1], malformed=0)
    return True


def _add_one_by_one(
    found: Assembled,
    position: OwnedPosition,
    records: Sequence[KafkaRecord],
    parked: Parked,
    caps: Caps,
    park_as: Diagnosis | None,
) -> None:
    adding = _OneByOne(found, position.partition, parked, caps, park_as)
    taken = 0
    while taken < len(records) and adding.takes(records[taken]):
        taken += 1
    if taken:
        _advance(found, position, records[taken - 1], adding.malformed)
        if taken < len(records) and position.partition not in found.refused:
            found.rest[found.positions_after[-1]] = records[taken:]


class _OneByOne:
    """Adds records of one partition to a batch, each by itself, until one of them has to wait or is refused."""

    def __init__(self, found: Assembled, partition: int, parked: Parked, caps: Caps, park_as: Diagnosis | None) -> None:
        self._found, self._partition, self._caps, self._park_as = found, partition, caps, park_as
        self._parked = parked
        self._erased = parked.erased or NOBODY_ERASED
        self._last_erased = self._erased.last
        self._erased_users: set[tuple[str, str]] = set()
        self._erased_keys: set[bytes] = set()
        self._erased_somebody_of: set[str] = set()  # tenants: by markers that name nobody any more
        self.malformed = 0

    def takes(self, record: KafkaRecord) -> bool:
        """Adds a record. Returns False if the batch has to end before it."""
        if is_blank(record.value):
            return True
        if record.offset in self._parked.discarded:
            self.malformed += 1
            return True
        marker = self._marker(record) if self._park_as is None else None
        if marker is not None:
            self._erase(marker)
            if isinstance(record, OpenedRecord) and record.erasure is not None and record.erasure.user_id is None:
                self._erased_somebody_of.add(marker.user[0])
            return True
        outcome = self._outcome(record)
        if self._erased_keys and self._is_of_erased(record, outcome):
            return False  # the rows of this batch go with the marker, and this record must not
        if isinstance(outcome, EventRow):
            self._found.batch.rows.append(outcome)
            return True
        return self._parks(record, outcome)

    def _marker(self, record: KafkaRecord) -> Marker | None:
        if isinstance(record, OpenedRecord) and record.erasure is not None:
            return sealed_marker(record.erasure, record)
        erasure = erasure_of(record.value)
        return None if erasure is None else marker_of(erasure, record)

    def _outcome(self, record: KafkaRecord) -> EventRow | Diagnosis:
        first, key = self._parked.first, self._key(record)
        if first and key in first:
            return parked_behind(first[key])
        outcome = self._park_as or to_row(record)
        if self._looks_for_erased(record) and isinstance(outcome, EventRow):
            return self._erased.stub(outcome)
        return outcome

    def _looks_for_erased(self, record: KafkaRecord) -> bool:
        return record.offset < self._last_erased

    def _key(self, record: KafkaRecord) -> bytes | None:
        return self._erased.key(record) if self._looks_for_erased(record) else record.key

    def _erase(self, marker: Marker) -> None:
        self._found.batch.markers.append(marker)
        tenant_id, user_id = marker.user
        names = [user_id, stub_id(self._erased.secret, marker.user), *marker.stubs]
        self._erased_users.update((tenant_id, name) for name in names)
        for name in (*names, *marker.subject_ids):
            key = key_of(tenant_id, name)
            if key in self._parked.count:  # to copy what is parked for each marker would cost as much as the rest
                self._parked = self._found.parked_after[self._partition] = self._parked.without(key)
            self._erased_keys.add(key)

    def _is_of_erased(self, record: KafkaRecord, outcome: EventRow | Diagnosis) -> bool:
        if isinstance(outcome, EventRow):
            event = outcome.event
            return event.tenant_id in self._erased_somebody_of or (event.tenant_id, event.user_id) in self._erased_users
        # Of whom it is, and what it waits for, is known when the marker is applied and the letters are loaded again.
        return bool(self._erased_somebody_of) or self._key(record) in self._erased_keys

    def _parks(self, record: KafkaRecord, why: Diagnosis) -> bool:
        if self._looks_for_erased(record):
            record = self._erased.masked(record)
        refusal = self._parked.refusal(record.key, self._caps)
        if refusal is not None:
            self._found.refused[self._partition] = refusal
            return False
        if self._partition not in self._found.parked_after:
            self._parked = self._found.parked_after[self._partition] = self._parked.copy()
        self._parked.add(record.key, record.offset)
        self._found.batch.letters.append(DeadLetter(as_in_the_log(record), why))
        self.malformed += why.cause != "behind"
        return True


def _drop_duplicates(batch: Batch) -> None:
    """Keeps the first row of each event and counts the others as duplicates of their partition."""
    found = distinct(batch.rows)
    batch.rows[:], batch.repeats[:], batch.conflicts[:] = found.rows, found.repeats, found.conflicts
    batch.advances[:] = [
        msgspec.structs.replace(advance, duplicates=found.duplicates[advance.partition]) for advance in batch.advances
    ]


def _advance(found: Assembled, position: OwnedPosition, last: KafkaRecord, malformed: int) -> None:
    topic, partition, epoch, next_offset = position.topic, position.partition, position.epoch, last.offset + 1
    found.batch.advances.append(
        Advance(
            topic,
            partition,
            epoch,
            position.next_offset,
            next_offset,
            malformed=malformed,
            last_record=fingerprint(as_in_the_log(last)),
        )
    )
    found.positions_after.append(OwnedPosition(topic, partition, next_offset, epoch))


def parked_behind(first_offset: int) -> Diagnosis:
    """Returns the diagnosis of a valid record that is parked because an earlier record of its key is parked."""
    return Diagnosis("behind", "Behind", f"It waits for the parked record at offset {first_offset}.", first_offset)


def record_count(part: Part) -> int:
    """Returns the number of records in a part."""
    return sum(map(len, part.values()))


def split_at(part: Part, size: int) -> tuple[Part, Part]:
    """Splits a part into its first `size` records and the rest, which may be empty.

    The rest of a partition starts at the position where the first piece ends, so it can be applied only after it.
    """
    if record_count(part) <= size:
        return part, {}
    left: dict[OwnedPosition, Sequence[KafkaRecord]] = {}
    right: dict[OwnedPosition, Sequence[KafkaRecord]] = {}
    room = size
    for position, records in part.items():
        count = min(room, len(records))
        room -= count
        if count:
            left[position] = records[:count]
        if count < len(records):
            then = position.next_offset if not count else records[count - 1].offset + 1
            right[msgspec.structs.replace(position, next_offset=then)] = records[count:]
    return left, right
