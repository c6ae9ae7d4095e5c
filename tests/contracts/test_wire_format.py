"""The topic's wire formats: framed values say what plain ones do, and one schema takes whatever may stand there."""

from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event
from hypothesis import given
from hypothesis import strategies as st

from contracts.blank import BLANK, is_blank
from contracts.erasure import erasure_of, erasure_records, new_erasure
from contracts.event import DEFAULT_TENANT, ActivityCommand, UserEvent, create_user_event
from contracts.record import EventRecord, PlacedRecord, from_value, new_record, to_record
from contracts.validation.fast_events import validate_events_fast
from contracts.validation.rules import Problems
from contracts.wire.cloud_events import CONTENT_TYPE
from contracts.wire.format import WireFormat
from contracts.wire.frames import frame_for, frame_of, unframed
from contracts.wire.topic_schema import topic_schema
from projector.privacy.erased_users import users_of_record
from projector.writing.failure import NotOpenedError
from projector.writing.rows import to_row
from tests.drivers.records import Record

FRAME = frame_for(7)
GOLDEN = sorted((Path(__file__).parent / "golden").rglob("*.json"))
COMMAND = ActivityCommand("user-1", "LOGIN", {"note": ',"timestamp":"no"'})


def a_record(tenant: str = DEFAULT_TENANT) -> EventRecord:
    return new_record(COMMAND, "request-1", tenant)


@pytest.mark.parametrize("tenant", [DEFAULT_TENANT, "acme"])
def test_a_framed_event_is_the_event(tenant: str) -> None:
    plain = a_record(tenant)
    written = WireFormat(frame=FRAME).written(plain)
    assert written.value == b"\0\0\0\0\x07" + plain.value
    assert (written.key, written.headers) == (plain.key, plain.headers)
    assert from_value(written.value) == from_value(plain.value)
    assert isinstance(from_value(written.value), UserEvent)
    assert users_of_record(None, written.value) == [(tenant, "user-1")]


def test_framed_and_plain_events_are_validated_together_at_once() -> None:
    records = [a_record() for _ in range(4)]
    mixed = [record.value if n % 2 else FRAME + record.value for n, record in enumerate(records)]
    found = validate_events_fast(mixed)
    assert found == validate_events_fast([record.value for record in records])
    assert found is not None


def test_a_frame_makes_no_event_valid_and_no_command() -> None:
    bad = b'{"userId":"user-1"}'
    assert from_value(FRAME + bad) == from_value(bad)
    assert isinstance(from_value(FRAME + bad), Problems)
    newer = b'{"version":"9.0"}'
    assert from_value(FRAME + newer) == from_value(newer)
    assert isinstance(from_value(FRAME + FRAME + a_record().value), Problems)
    assert validate_events_fast([FRAME + bad, FRAME + a_record().value]) is None


@given(st.binary())
def test_only_json_objects_have_a_frame(raw: bytes) -> None:
    assert frame_of(raw) == (raw[:5] if raw[:1] == b"\0" and raw[5:].lstrip(b" \t\r\n")[:1] == b"{" else b"")
    assert unframed(frame_for(1) + b"{" + raw) == b"{" + raw


@pytest.mark.parametrize("schema_id", [-1, 2**31])
def test_what_is_no_id_is_no_frame(schema_id: int) -> None:
    with pytest.raises(ValueError, match="id"):
        frame_for(schema_id)


def test_markers_and_blanks_are_known_in_a_frame() -> None:
    erasure = new_erasure("acme", "user-1")
    [marker] = erasure_records(erasure, "request-1", 1)
    written = WireFormat(frame=FRAME).written(marker)
    assert isinstance(written, PlacedRecord)
    assert written.partition == marker.partition
    assert erasure_of(written.value) == erasure == erasure_of(marker.value)
    assert is_blank(FRAME + BLANK)
    assert not is_blank(b"x" + BLANK)


def schema() -> Any:
    return jsonschema_rs.Draft7Validator(msgspec.json.decode(topic_schema()))


def test_the_topics_schema_takes_whatever_may_stand_in_it_and_nothing_else() -> None:
    takes = schema().is_valid
    [marker] = erasure_records(new_erasure(DEFAULT_TENANT, "user-1"), "r", 1)
    for value in (a_record().value, a_record("acme").value, marker.value, BLANK):
        assert takes(msgspec.json.decode(value)), value
    for value in (b"{}", b"[]", b'{"userId":"user-1"}', a_record().value[:-1] + b',"more":1}'):
        assert not takes(msgspec.json.decode(value)), value


@pytest.mark.parametrize("file", GOLDEN, ids=[file.name for file in GOLDEN])
def test_the_topics_schema_takes_every_golden_record(file: Path) -> None:
    value = msgspec.json.decode(file.read_bytes())["value"]
    assert schema().is_valid(msgspec.json.decode(value))


def read(record: EventRecord) -> Any:
    return from_binary_event(KafkaMessage(dict(record.headers), record.key, record.value))


@pytest.mark.parametrize("tenant", [DEFAULT_TENANT, "acme"])
def test_the_sdk_reads_an_event_as_a_cloud_event(tenant: str) -> None:
    plain = a_record(tenant)
    written = WireFormat(cloud_events=True).written(plain)
    assert written.value == plain.value
    assert written.headers[: len(plain.headers)] == plain.headers
    event, found = read(written), from_value(plain.value)
    assert isinstance(found, UserEvent)
    told = event.get_attributes()
    assert (told["specversion"], told["id"], told["type"]) == ("1.0", str(found.event_id), "LOGIN")
    assert (told["time"], told["source"]) == (found.timestamp, f"urn:footfall:user-activity-events:{tenant}")
    assert told["datacontenttype"] == "application/json"
    assert event.get_data() == msgspec.json.decode(plain.value)
    assert "subject" not in told


def test_an_event_with_a_derived_id_and_a_marker_are_cloud_events_too() -> None:
    record = to_record(create_user_event(COMMAND, DEFAULT_TENANT), "r", b"a" * 64)
    assert read(WireFormat(cloud_events=True).written(record)).get_type() == "LOGIN"
    erasure = new_erasure("acme", "user-1")
    [marker] = erasure_records(erasure, "r", 1)
    event = read(WireFormat("t", cloud_events=True).written(marker))
    assert (event.get_type(), event.get_id()) == ("erasure", str(erasure.erasure_id))
    assert (event.get_time(), event.get_source()) == (erasure.requested_at, "urn:footfall:t:acme")


def test_a_framed_cloud_event_does_not_say_that_it_is_json() -> None:
    written = WireFormat(frame=FRAME, cloud_events=True).written(a_record())
    assert dict(written.headers)[CONTENT_TYPE] == b"application/octet-stream"


def test_a_framed_record_of_the_sealed_log_is_not_blamed_where_there_is_no_key() -> None:
    golden = next(file for file in GOLDEN if file.name == "v3_view.json")
    value = msgspec.json.decode(golden.read_bytes())["value"].encode()
    for sealed in (value, FRAME + value):
        with pytest.raises(NotOpenedError):
            to_row(Record(0, 0, sealed))
