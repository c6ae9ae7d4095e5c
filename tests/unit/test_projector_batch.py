"""Cutting and assembling a fetch: pure functions, tested as such."""

from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from contracts.event import UserEvent
from contracts.versions import encode_event
from projector.consuming.batch import OwnedPosition, assemble, split_by_bytes
from projector.dead_letters.parking import Caps
from projector.writing.commit import Advance
from projector.writing.failure import Diagnosis
from projector.writing.fingerprint import fingerprint
from projector.writing.rows import MAX_RECORDED_AT_MS, MIN_RECORDED_AT_MS, EventRow, to_row
from tests.drivers.records import Record
from tests.producing import an_event


def record(event: UserEvent, partition: int = 0, offset: int = 0, timestamp: int = 0) -> Record:
    return Record(partition, offset, encode_event(event), timestamp)


@st.composite
def fetches(draw: st.DrawFn) -> dict[OwnedPosition, list[Record]]:
    fetched = {}
    for partition in range(draw(st.integers(1, 4))):
        offset = start = draw(st.integers(0, 50))
        records = []
        for _ in range(draw(st.integers(1, 12))):
            offset += draw(st.sampled_from([0, 0, 0, 3]))  # a hole now and then
            length = draw(st.one_of(st.none(), st.integers(0, 40)))
            records.append(Record(partition, offset, None if length is None else b"x" * length))
            offset += 1
        fetched[OwnedPosition("t", partition, start, epoch=partition + 7)] = records
    return fetched


@given(fetches(), st.integers(1, 100))
def test_a_split_keeps_every_record_in_order_and_parts_small(
    fetched: dict[OwnedPosition, list[Record]], max_bytes: int
) -> None:
    parts = list(split_by_bytes(fetched, max_bytes))
    for start, records in fetched.items():
        cut = [(at, found) for part in parts for at, found in part.items() if at.partition == start.partition]
        assert [one for _, found in cut for one in found] == records
        assert cut[0][0] == start
        # Each part begins where the one before it, committed, leaves the partition.
        for (_, before), (at, _) in pairwise(cut):
            assert at == msgspec.structs.replace(start, next_offset=before[-1].offset + 1)
    for part in parts:
        found = [one for records in part.values() for one in records]
        assert found
        assert all(part.values())
        assert len(found) == 1 or sum(len(one.value or b"") for one in found) <= max_bytes


def test_a_fetch_that_fits_is_one_part() -> None:
    fetched = {OwnedPosition("t", p, 0, 1): [Record(p, n, b"12345") for n in range(10)] for p in range(3)}
    assert list(split_by_bytes(fetched, 150)) == [fetched]
    assert list(split_by_bytes({}, 150)) == []


def test_a_batch_keeps_the_first_record_of_an_event_and_counts_the_rest() -> None:
    once, twice = an_event(), an_event()
    fetched = {
        OwnedPosition("t", 0, 5, 2): [record(twice, 0, 5), Record(0, 6, None), record(twice, 0, 9)],
        OwnedPosition("t", 1, 0, 4): [record(once, 1, 3), record(twice, 1, 4)],
    }
    found = assemble(fetched, {}, Caps())
    assert [(row.event, row.partition, row.offset) for row in found.batch.rows] == [(twice, 0, 5), (once, 1, 3)]
    last = fingerprint(record(twice, 0, 9))
    assert found.batch.advances == [
        Advance("t", 0, epoch=2, old_offset=5, new_offset=10, duplicates=1, malformed=1, last_record=last),
        Advance("t", 1, epoch=4, old_offset=0, new_offset=5, duplicates=1, malformed=0, last_record=last),
    ]
    assert found.positions_after == [OwnedPosition("t", 0, 10, 2), OwnedPosition("t", 1, 5, 4)]
    assert [(letter.record.partition, letter.record.offset) for letter in found.batch.letters] == [(0, 6)]


def test_a_records_time_beyond_the_calendar_is_malformed() -> None:
    for timestamp in (MIN_RECORDED_AT_MS, -1, 0, MAX_RECORDED_AT_MS):
        assert isinstance(to_row(record(an_event(), timestamp=timestamp)), EventRow)
    for timestamp in (-(2**63), MIN_RECORDED_AT_MS - 1, MAX_RECORDED_AT_MS + 1, 2**63 - 1):
        assert isinstance(to_row(record(an_event(), timestamp=timestamp)), Diagnosis)
