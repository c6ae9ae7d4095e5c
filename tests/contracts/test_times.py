"""A time is cut to the microsecond that it has begun, never rounded; and written with six digits whatever they are."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.event import UserEvent, create_user_event
from contracts.record import from_value, new_record, to_record
from contracts.validation.fast_events import validate_events_fast
from contracts.validation.rules import Problems
from contracts.validation.times import cut
from contracts.versions import encode_event
from read_model.wire_time import wire_time
from tests.shipped_types import new_records, validate_user_event

EVENT = {
    "eventId": "01980000-0000-7000-8000-000000000001",
    "userId": 'Z","payload":',
    "eventType": "LOGIN",
    "payload": {"at": 'Z","payload":{}', "timestamp": "2026-12-31T23:59:59.9999999Z"},
}
V2 = {"version": "2.0", "tenantId": "acme", "_metadata": {"schema_version": "2.0", "migrated_at": None}}


def record(timestamp: str, **fields: object) -> bytes:
    return json.dumps(EVENT | {"timestamp": timestamp} | fields).encode()


TIMES = {
    "the last 100 ns of a year": ("2026-12-31T23:59:59.9999999Z", "2026-12-31T23:59:59.999999Z"),
    "the last of the calendar": ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999Z"),
    "nanoseconds": ("2026-01-31T12:00:00.123456789Z", "2026-01-31T12:00:00.123456Z"),
    "less than a microsecond": ("2026-01-31T12:00:00.0000009Z", "2026-01-31T12:00:00.000000Z"),
    "a hundred digits": (f"2026-01-31T12:00:00.{'9' * 100}Z", "2026-01-31T12:00:00.999999Z"),
    "another offset": ("2027-01-01T01:59:59.9999999+02:00", "2026-12-31T23:59:59.999999Z"),
    "a leap second": ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999999Z"),
    "within a leap second": ("2016-12-31T23:59:60.5Z", "2016-12-31T23:59:59.999999Z"),
    "a leap second in Los Angeles": ("2016-12-31T15:59:60.123-08:00", "2016-12-31T23:59:59.999999Z"),
    "a leap second in small letters": ("2016-12-31t23:59:60z", "2016-12-31T23:59:59.999999Z"),
    "milliseconds": ("2026-01-31T12:00:00.120Z", "2026-01-31T12:00:00.120000Z"),
    "a full second": ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000000Z"),
}


@pytest.mark.parametrize(("text", "written"), TIMES.values(), ids=TIMES)
@pytest.mark.parametrize("version", [{}, V2], ids=["version 1", "version 2"])
def test_a_time_is_cut_and_written_at_one_width(text: str, written: str, version: dict[str, object]) -> None:
    event = from_value(record(text, **version))
    assert isinstance(event, UserEvent), event
    assert event.payload == EVENT["payload"]  # only the event's own time is cut
    assert json.loads(encode_event(event)) == {**EVENT, "timestamp": written, **version}
    assert from_value(encode_event(event)) == event
    hidden = record(text, **version).replace(b"9Z", b"\\u0039Z").replace(b"60Z", b"\\u00360Z")
    assert from_value(hidden) == event


@pytest.mark.parametrize("text", ["2016-12-31T23:58:60Z", "2016-12-31T22:59:60Z", "2016-12-31T23:59:60-08:00"])
def test_no_other_minute_has_a_60th_second(text: str) -> None:
    assert isinstance(from_value(record(text)), Problems)


def test_the_writing_of_a_version_2_may_have_been_in_a_leap_second() -> None:
    metadata = {"schema_version": "1.0", "migrated_at": "2016-12-31T23:59:60Z"}
    assert isinstance(from_value(record("2026-01-31T12:00:00Z", **V2 | {"_metadata": metadata})), UserEvent)


moments = st.datetimes(timezones=st.just(UTC))


@given(moments, st.text("0123456789", max_size=12), st.sampled_from(["Z", "+00:00"]))
@example(datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), "9999999", "Z")
def test_a_batch_cuts_as_one_record_does(moment: datetime, digits: str, offset: str) -> None:
    moment = moment.replace(microsecond=0)
    text = moment.isoformat().removesuffix("+00:00") + (f".{digits}" if digits else "") + offset
    event = from_value(record(text))
    assert isinstance(event, UserEvent)
    assert event.timestamp == moment + timedelta(microseconds=int(digits[:6].ljust(6, "0")))
    together = validate_events_fast([record(text), record("2026-01-31T12:00:00Z")])
    if together is not None:
        assert together.events[0] == event
        assert together.rendered[0] == encode_event(event)
        assert json.loads(together.rendered[0])["timestamp"] == wire_time(event.timestamp)


@given(st.text("0123456789-T:.Z+ ") | moments.map(str))
def test_cutting_twice_is_cutting_once(text: str) -> None:
    assert cut(cut(text)) == cut(text)


def test_commands_in_the_first_microsecond_of_a_second_have_six_digits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=lambda _zone: datetime(2026, 1, 31, 12, tzinfo=UTC))
    for module in ("contracts.record", "contracts.event", "contracts.validation.fast_commands"):
        monkeypatch.setattr(f"{module}.datetime", clock)
    body = json.dumps({"userId": "Z", "eventType": "LOGIN", "payload": EVENT["payload"]}).encode()
    command = validate_user_event(body)
    assert not isinstance(command, Problems)
    together = new_records(body, "r", "default", lines=True, at_most=1)
    assert together is not None
    values = [
        together[0].value,
        new_record(command, "r", "default").value,
        to_record(create_user_event(command, "default"), "r").value,
    ]
    for value in values:
        assert json.loads(value) == {
            "eventId": json.loads(value)["eventId"],
            "timestamp": "2026-01-31T12:00:00.000000Z",
            **json.loads(body),
        }
