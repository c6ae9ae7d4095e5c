"""What is parked decides what may be applied: pure functions, tested as such."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.versions import encode_event
from projector.consuming.batch import OwnedPosition, assemble
from projector.dead_letters.parking import Caps, Parked, header_name, recorded_at, storable, timestamp_ms, user_of
from projector.liveness.stops import StopCause
from projector.privacy.erased_users import ErasedUsers, stub_id
from projector.writing.failure import storable_words
from projector.writing.rows import MAX_RECORDED_AT_MS, MIN_RECORDED_AT_MS
from read_model.pseudonyms import pseudonym
from tests.drivers.records import Record
from tests.producing import an_event

POSITION = OwnedPosition("t", 0, 0, 1)
CAPS = Caps(of_one_key=3, of_one_partition=5)


def sound(offset: int, key: bytes | None) -> Record:
    return Record(0, offset, encode_event(an_event((key or b"nobody").decode())), key=key)


def broken(offset: int, key: bytes | None) -> Record:
    return Record(0, offset, b"no", key=key)


def outcome(
    records: list[Record], parked: Parked | None = None
) -> tuple[list[int], Sequence[tuple[int, str]], StopCause | None]:
    """Offsets applied, offsets parked with cause, and why the partition stops."""
    found = assemble({POSITION: records}, {0: parked or Parked()}, CAPS)
    letters = [(letter.record.offset, letter.diagnosis.cause) for letter in found.batch.letters]
    refused = found.refused.get(0)
    return [row.offset for row in found.batch.rows], letters, refused.cause if refused else None


def test_what_follows_a_parked_record_of_its_key_waits_and_others_do_not() -> None:
    records = [broken(0, b"a"), sound(1, b"a"), sound(2, b"b"), broken(3, b"a"), sound(4, None)]
    assert outcome(records) == ([2, 4], [(0, "poison"), (1, "behind"), (3, "behind")], None)


@pytest.mark.parametrize("no_key", [None, b""], ids=["no key", "an empty key"])
def test_records_without_a_key_hold_up_nobody(no_key: bytes | None) -> None:
    assert outcome([broken(0, no_key), sound(1, no_key)]) == ([1], [(0, "poison")], None)
    assert outcome([broken(n, no_key) for n in range(4)])[2] is None  # nor is there a cap of what belongs to nobody


def test_what_was_parked_earlier_counts() -> None:
    parked = Parked()
    parked.add(b"a", 0)
    assert outcome([sound(1, b"a"), sound(2, b"b")], parked) == ([2], [(1, "behind")], None)
    assert parked.total == 1  # the batch may not be committed: it counts in a copy


@pytest.mark.parametrize(
    ("keys", "applied", "cause"),
    [([b"a"] * 9, 3, StopCause.PARKED_OF_KEY), ([b"%d" % n for n in range(9)], 5, StopCause.PARKED_OF_PARTITION)],
)
def test_at_its_cap_a_partition_stops_before_the_letter(keys: list[bytes], applied: int, cause: StopCause) -> None:
    rows, letters, refused = outcome([broken(n, key) for n, key in enumerate(keys)])
    assert rows == []
    assert len(letters) == applied
    assert refused is cause


@given(st.text())
def test_a_header_name_survives_postgresql(name: str) -> None:
    assert "\0" not in storable(name)
    assert header_name(storable(name)) == name


@given(st.text(alphabet=["\\", "0", "\0", "a"]))
def test_escapes_do_not_meet(name: str) -> None:
    assert header_name(storable(name)) == name


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_timestamp_survives_and_stays_outside_the_calendar_if_it_was(timestamp: int) -> None:
    back = timestamp_ms(recorded_at(timestamp))
    if MIN_RECORDED_AT_MS < timestamp <= MAX_RECORDED_AT_MS:
        assert back == timestamp
    elif timestamp != MIN_RECORDED_AT_MS:
        assert not MIN_RECORDED_AT_MS <= back <= MAX_RECORDED_AT_MS


def test_words_are_made_fit_for_a_text_column() -> None:
    assert storable_words("a\0b\ud800c") == "a\ufffdb?c"
    assert len(storable_words("x" * 5_000)) == 1_000


def test_a_key_names_a_user_only_if_it_is_text() -> None:
    assert [user_of(key) for key in (b"ann", b"\xff", b"a\0b", None, b"")] == ["ann", None, None, None, None]
    assert [user_of(key) for key in (b"acme\x1fann", b"acme/ann", b"acme\x1f")] == ["ann", "acme/ann", "acme\x1f"]


def test_records_of_erased_users_become_stubs_until_the_marker() -> None:
    secret = bytes(32)
    erased = ErasedUsers(secret, {pseudonym(secret, "default", "alice"): 4}, frozenset({"productId"}))
    payload = {"productId": "p-1", "mail": "alice@example.com"}
    broken = b'{"userId":"alice","payload":"alice@example.com"}'
    records = [
        Record(0, 0, encode_event(an_event("alice", payload)), key=b"alice"),
        Record(0, 1, encode_event(an_event("bob", payload)), key=b"bob"),
        Record(0, 2, broken, key=b"alice"),
        Record(0, 3, encode_event(an_event("alice", payload)), key=b"alice"),
        Record(0, 5, encode_event(an_event("alice", payload)), key=b"alice"),
    ]
    found = assemble({POSITION: records}, {0: Parked(erased=erased)}, CAPS)
    stub, bob, back = found.batch.rows
    name = stub_id(secret, ("default", "alice"))
    assert (stub.event.user_id, stub.event.payload, bob.event.user_id) == (name, {"productId": "p-1"}, "bob")
    assert (back.event.user_id, back.event.payload) == ("alice", payload)  # behind the marker: a user who is back
    assert b"alice" not in stub.event_json + stub.payload
    value = b'{"tenantId":"default","userId":"%b"}' % name.encode()
    letters = [letter.record for letter in found.batch.letters]
    assert [(letter.offset, letter.key, letter.value) for letter in letters] == [
        (2, name.encode(), value),
        (3, name.encode(), value),
    ]
