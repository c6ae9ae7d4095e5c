"""What stands in a rewritten log instead of a record, by what the record is and whose."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from contracts.blank import BLANK
from contracts.erasure import encode_erasure, erasure_of, erasure_records, new_erasure
from contracts.event import UserEvent
from contracts.record import from_value, to_record
from contracts.versions import encode_event
from contracts.wire.format import WireFormat
from contracts.wire.frames import frame_for
from operations.rewrite.substitutes import Substitutes
from read_model.topic_names import names_before, next_name
from tests.producing import an_event

ALICE, MARKER = ("default", "alice"), 10
MADE = Substitutes(b"secret", {ALICE: {0: MARKER}}, frozenset({"productId"}), keeps_counts=True)
NOTHING = Substitutes(b"secret", {ALICE: {0: MARKER}}, frozenset({"productId"}), keeps_counts=False)


class Record(msgspec.Struct):
    """A record as Kafka's client reads it."""

    value: bytes | None
    key: bytes | None = b"alice"
    offset: int = 3
    partition: int = 0
    timestamp: int = 7_200_123
    headers: Sequence[tuple[str, bytes]] = (("request-id", b"from-alice"),)


EVENT = an_event("alice", {"productId": "p-1", "mail": "a@b"}, timestamp=datetime(2026, 3, 1, 12, 34, 56, tzinfo=UTC))
OF_ALICE = Record(encode_event(EVENT))


def test_an_event_becomes_a_stub_that_counts_as_it_did_and_names_nobody() -> None:
    copy = MADE.event(OF_ALICE)
    stub = from_value(copy.value)
    assert isinstance(stub, UserEvent)
    assert (stub.event_type, stub.payload, stub.timestamp.hour) == (EVENT.event_type, {"productId": "p-1"}, 12)
    assert (stub.timestamp.minute, copy.timestamp) == (0, 7_200_000)
    assert stub.event_id != EVENT.event_id
    assert (stub.event_id.version, stub.event_id.variant) == (8, "specified in RFC 4122")
    told = str(copy)
    assert not [word for word in ("alice", "a@b", str(EVENT.event_id)) if word in told]
    assert copy.key == stub.user_id.encode()
    assert MADE.event(OF_ALICE) == copy  # the same again, so that a comparison can tell
    other = Substitutes(b"other", {ALICE: {0: MARKER}}, frozenset(), keeps_counts=True).event(OF_ALICE)
    assert other.key != copy.key


def test_what_came_after_the_marker_or_is_of_others_stays_as_it_is() -> None:
    later = msgspec.structs.replace(OF_ALICE, offset=MARKER + 1)
    elsewhere = msgspec.structs.replace(OF_ALICE, partition=1)
    of_bob = Record(encode_event(an_event("bob", {"about": "alice"})), b"bob")
    of_acme = Record(encode_event(msgspec.structs.replace(EVENT, tenant_id="acme")), b"acme\x1falice")
    nothing = Record(None, None)
    for record in (later, elsewhere, of_bob, of_acme, nothing):
        copy = MADE.event(record)
        assert copy.kind == "same"
        assert (copy.key, copy.value, copy.headers, copy.timestamp) == (
            *(record.key, record.value),
            *(record.headers, record.timestamp),
        )


def test_a_key_that_names_the_erased_user_goes_from_the_event_of_another() -> None:
    value = encode_event(an_event("bob"))
    copy = MADE.event(Record(value))
    assert (copy.kind, copy.key, copy.value) == ("key", b"bob", value)


def test_a_marker_becomes_that_of_the_stub_unless_it_is_not_covered() -> None:
    value = encode_erasure(new_erasure(*ALICE))
    copy = MADE.event(Record(value, offset=MARKER))
    stub, erasure = erasure_of(copy.value), erasure_of(value)
    assert stub is not None
    assert erasure is not None
    assert (copy.kind, copy.key, stub.user_id.encode()) == ("marker", MADE.event(OF_ALICE).key, copy.key)
    assert stub.erasure_id != erasure.erasure_id
    assert MADE.event(Record(value, offset=MARKER + 1)).kind == "same"


def test_what_is_no_event_is_set_aside_still_and_says_nothing() -> None:
    for record in (Record(b"{"), Record(b'{"userId":"alice"}', None)):
        copy = MADE.event(record)
        assert copy.kind == "unreadable"
        assert not isinstance(from_value(copy.value), UserEvent)
        assert "alice" not in str(copy)


def test_without_counts_nothing_is_left_but_a_blank() -> None:
    marker = Record(encode_erasure(new_erasure(*ALICE)), offset=MARKER)
    for record in (OF_ALICE, marker, Record(b"{")):
        assert NOTHING.event(record).value == BLANK


def test_a_dead_letter_keeps_its_place_and_loses_its_bytes() -> None:
    place = [("footfall-dlq-partition", b"0"), ("footfall-dlq-offset", b"3"), ("footfall-dlq-error-message", b"alice")]
    copy = MADE.letter(Record(OF_ALICE.value, headers=[("request-id", b"from-alice"), *place]))
    assert (copy.kind, copy.key, copy.value) == ("letter", None, None)
    assert [name for name, _ in copy.headers] == [name for name, _ in place]
    assert "alice" not in str(copy)
    assert MADE.letter(Record(OF_ALICE.value)).kind == "same"  # nobody knows where it stood


def test_a_rewritten_topic_has_the_number_of_the_rewrite_and_knows_its_earlier_names() -> None:
    assert [next_name("events", 1), next_name("events.1", 2)] == ["events.1", "events.2"]
    assert next_name("events.2026", 1) == "events.2026.1"
    assert list(names_before("events.2")) == ["events.1", "events"]
    assert list(names_before("events")) == list(names_before("events.2026")) == []


def test_what_stands_instead_of_a_framed_record_is_framed_and_a_cloud_event_if_it_was_one() -> None:
    wire = WireFormat(frame=frame_for(7), cloud_events=True)
    written = wire.written(to_record(EVENT, "from-alice"))
    copy = MADE.event(Record(written.value, headers=written.headers))
    assert copy.value is not None
    assert copy.value[:5] == frame_for(7)
    stub, headers = from_value(copy.value), dict(copy.headers)
    assert isinstance(stub, UserEvent)
    assert headers["ce_id"] == str(stub.event_id).encode() == headers["event-id"]
    assert headers["ce_time"] == b"2026-03-01T12:00:00.000000Z"
    assert "alice" not in str(copy)
    assert NOTHING.event(Record(written.value)).value == frame_for(7) + BLANK
    [marker] = erasure_records(new_erasure(*ALICE), "r", 1)
    framed = wire.written(marker)
    renamed = MADE.event(Record(framed.value, headers=framed.headers))
    assert erasure_of(renamed.value) is not None
    assert dict(renamed.headers)["ce_type"] == b"erasure"
