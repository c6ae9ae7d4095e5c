"""The rules of commands and events, each at its boundary; the same rules serve HTTP and Kafka."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.event import MAX_PAYLOAD_BYTES, ActivityCommand, UserEvent, create_user_event
from contracts.record import from_value, to_record
from contracts.validation.rules import Problems, validate_complete_user_event
from contracts.versions import encode_event
from tests.shipped_types import validate_user_event

EVENT_ID = "01980000-0000-7000-8000-000000000001"
USER_ID = "Field `userId` must be a string of 1 to 256 characters without control characters."
EVENT_TYPE = "Field `eventType` must be one of LOGIN, LOGOUT, PRODUCT_VIEW."
PAYLOAD = "Field `payload` must be a JSON object."
TIMESTAMP = "Field `timestamp` must be an ISO-8601 date and time with an offset, such as 2026-01-31T12:00:00.000Z."
DEEP = "Field `payload` is nested deeper than 16 levels."
DEEP_JSON = "The JSON is nested deeper than 16 levels."
LARGE = "Field `payload` is larger than 16 KiB encoded."
INTEGER = "Field `payload` has an integer beyond 64 bits; send it as a string."
FRACTION = "Field `payload` has a fractional number beyond 2^53; send it as a string."
HUGE = "A number is too large; send it as a string."
TINY = "A number is too small to be told from zero; send it as a string."
NUL = "A string contains the character U+0000, which cannot be stored."
SURROGATE = "A string contains half of a surrogate pair, which is no character."
NOT_UTF8 = "The JSON is not valid UTF-8."
NOT_AN_OBJECT = "The JSON must be an object."


def begins_with(what: str) -> str:
    return f"The JSON is not valid: it begins with {what}; it must be plain JSON in UTF-8."


def command_json(payload: str) -> bytes:
    """A command's text around a payload that is given as text, because some have no Python value."""
    return f'{{"userId":"u","eventType":"LOGIN","payload":{payload}}}'.encode("utf-8", "surrogatepass")


def event_json(payload: str) -> bytes:
    """A complete event's text around a payload given as text."""
    head = f'{{"eventId":"{EVENT_ID}","userId":"u","eventType":"LOGIN","timestamp":"2026-01-31T12:00:00Z"'
    return f'{head},"payload":{payload}}}'.encode("utf-8", "surrogatepass")


def body(**fields: Any) -> bytes:
    return json.dumps({"userId": "u", "eventType": "LOGIN"} | fields).encode()


def nested(levels: int) -> str:
    """A payload object of so many levels, the object itself being the first."""
    return '{"a":' * levels + "1" + "}" * levels


def sized(size: int) -> str:
    """A payload whose canonical encoding has exactly so many bytes."""
    return '{"a":"' + "x" * (size - len('{"a":""}')) + '"}'


def sentences(found: object) -> list[str]:
    return found.sentences if isinstance(found, Problems) else []


SOUND_PAYLOADS = {
    "empty": "{}",
    "of 16 levels": nested(16),
    "of 16 KiB": sized(MAX_PAYLOAD_BYTES),
    "over 16 KiB as sent, less as encoded": '{"a":"' + "\\u0041" * 5_000 + '"}',
    "largest integer": '{"x":18446744073709551615}',
    "smallest integer": '{"x":-9223372036854775808}',
    "2^53 as a fraction": '{"x":9007199254740992.0}',
    "minus 2^53 as a fraction": '{"x":-9007199254740992.0}',
    "smallest fraction": '{"x":5e-324}',
    "zero": '{"x":0.0}',
    "zero with an exponent": '{"x":0e5}',
    "minus zero": '{"x":-0.0}',
    "many growing numbers": '{"x":[' + ",".join(["9e15"] * 800) + "]}",
    "a backslash before u0000": '{"x":"\\\\u0000"}',
    "a backslash before ud800": '{"x":"\\\\ud800"}',
    "a whole surrogate pair": '{"x":"\\ud83d\\ude00"}',
    "control characters": '{"x":"\\u0001\\n\\u007f"}',
    "every kind of value": '{"x":[null,true,false,"s",1,1.5,{"y":[]}]}',
}

UNSOUND_PAYLOADS = {
    "of 17 levels": (nested(17), DEEP),
    "of 17 levels of lists": ('{"a":' + "[" * 16 + "]" * 16 + "}", DEEP),
    "a byte over 16 KiB": (sized(MAX_PAYLOAD_BYTES + 1), LARGE),
    "small as sent, over 16 KiB as encoded": ('{"x":[' + ",".join(["1e15"] * 3_000) + "]}", LARGE),
    "integer of 2^64": ('{"x":18446744073709551616}', INTEGER),
    "integer below -2^63": ('{"x":-9223372036854775809}', INTEGER),
    "integer of 5,000 digits": ('{"x":' + "9" * 5_000 + "}", HUGE),
    "fraction beyond 2^53": ('{"x":9007199254740994.0}', FRACTION),
    "fraction below -2^53": ('{"x":-9007199254740994.0}', FRACTION),
    "1e16": ('{"x":1e16}', FRACTION),
    "1e400": ('{"x":1e400}', HUGE),
    "-1e400": ('{"x":-1e400}', HUGE),
    "1e-400": ('{"x":1e-400}', TINY),
    "-0.1e-999": ('{"x":-0.1e-999}', TINY),
    "1e-400 twice, said once": ('{"x":[1e-400,1e-400]}', TINY),
    "0.00..1 without an exponent": ('{"x":0.' + "0" * 400 + "1}", TINY),
    "NUL in a value": ('{"x":"\\u0000"}', NUL),
    "NUL in a name": ('{"\\u0000":1}', NUL),
    "NUL in a nested value": ('{"x":[{"y":"a\\u0000"}]}', NUL),
    "lone high surrogate": ('{"x":"\\ud800"}', SURROGATE),
    "lone low surrogate": ('{"x":"\\uDFFF"}', SURROGATE),
    "lone surrogate before text": ('{"x":"\\ud800x"}', SURROGATE),
    "lone surrogate before an escape": ('{"x":"\\ud800\\u0041"}', SURROGATE),
    "lone surrogate before a pair": ('{"x":"\\ud800\\ud83d\\ude00"}', SURROGATE),
    "lone surrogate in a name": ('{"\\udc00":1}', SURROGATE),
    "surrogate as raw bytes": ('{"x":"\ud800"}', NOT_UTF8),
    "null": ("null", PAYLOAD),
    "list": ("[]", PAYLOAD),
    "string": ('"{}"', PAYLOAD),
    "number": ("1", PAYLOAD),
}

VALIDATORS: list[tuple[Callable[[str], bytes], Callable[[bytes], object]]] = [
    (command_json, validate_user_event),
    (event_json, validate_complete_user_event),
]
both_ends = pytest.mark.parametrize(("text", "validate"), VALIDATORS, ids=["command", "event"])


@both_ends
@pytest.mark.parametrize("payload", SOUND_PAYLOADS.values(), ids=SOUND_PAYLOADS)
def test_a_sound_payload_is_kept_as_it_is(
    text: Callable[[str], bytes], validate: Callable[[bytes], object], payload: str
) -> None:
    valid = validate(text(payload))
    assert isinstance(valid, ActivityCommand | UserEvent), sentences(valid)
    assert valid.payload == json.loads(payload)


@both_ends
@pytest.mark.parametrize(("payload", "problem"), UNSOUND_PAYLOADS.values(), ids=UNSOUND_PAYLOADS)
def test_an_unsound_payload_is_named(
    text: Callable[[str], bytes], validate: Callable[[bytes], object], payload: str, problem: str
) -> None:
    assert sentences(validate(text(payload))) == [problem]


@pytest.mark.parametrize(
    "user_id", ["u", "x" * 256, "😀" * 256, " ", "é ü", "\u2028", "\u00a0", "\\", '"', "\\u0000", "../..", "%s"]
)
def test_a_user_id_that_is_valid(user_id: str) -> None:
    command = validate_user_event(body(userId=user_id))
    assert command == ActivityCommand(user_id=user_id, event_type="LOGIN", payload={})


@pytest.mark.parametrize(
    "user_id",
    [
        "",
        "x" * 257,
        "😀" * 257,
        "\n",
        "u\n",
        "\tu",
        "u\x1f",
        "u\x7f",
        "u\x80",
        "u\x85",
        "u\x9f",
        5,
        1.5,
        None,
        True,
        [],
        {},
    ],
)
def test_a_user_id_that_is_not(user_id: object) -> None:
    assert sentences(validate_user_event(body(userId=user_id))) == [USER_ID]


@pytest.mark.parametrize("code", [*range(0x01, 0x20), *range(0x7F, 0xA0)])
def test_no_control_character_is_a_user_id(code: int) -> None:
    assert sentences(validate_user_event(body(userId=f"a{chr(code)}b"))) == [USER_ID]


@pytest.mark.parametrize("event_type", ["LOGIN", "LOGOUT", "PRODUCT_VIEW"])
def test_an_event_type_that_is_valid(event_type: str) -> None:
    assert sentences(validate_user_event(body(eventType=event_type))) == []


@pytest.mark.parametrize("event_type", ["", "login", "LOGIN ", "LOGIN\n", "DELETE", None, 1, ["LOGIN"], {}])
def test_an_event_type_that_is_not(event_type: object) -> None:
    assert sentences(validate_user_event(body(eventType=event_type))) == [EVENT_TYPE]


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "The JSON is not valid: it was truncated."),
        (b"  ", "The JSON is not valid: it was truncated."),
        (b"{", "The JSON is not valid: it was truncated."),
        (b'{"userId":"u","eventType":"LOGIN"', "The JSON is not valid: it was truncated."),
        (b'{"userId":"u","eventType":"LOGIN"}x', "The JSON is not valid: trailing characters (byte 35)."),
        (b'{"userId":"u",}', "The JSON is not valid: trailing comma in object (byte 14)."),
        (b"{'userId':'u'}", "The JSON is not valid: object keys must be strings (byte 1)."),
        (command_json('{"x":NaN}'), "The JSON is not valid: invalid character (byte 49)."),
        (command_json('{"x":Infinity}'), "The JSON is not valid: invalid character (byte 49)."),
        (command_json('{"x":-Infinity}'), "The JSON is not valid: invalid character (byte 50)."),
        (command_json('{"x":01}'), "The JSON is not valid: invalid number (byte 50)."),
        (command_json('{"x":"\n"}'), "The JSON is not valid: invalid character (byte 50)."),
        (command_json('{"x":"\0"}'), "The JSON is not valid: invalid character (byte 50)."),
        (command_json('{"x":"\\ud8zz"}'), "The JSON is not valid: invalid character in unicode escape (byte 55)."),
        (b"\xef\xbb\xbf" + body(), begins_with("a byte order mark (EF BB BF)")),
        (body().decode().encode("utf-16"), begins_with("the byte order mark of UTF-16")),
        (b'{"userId":"\xff","eventType":"LOGIN"}', NOT_UTF8),
        (b'{"userId":"\xc0\x80","eventType":"LOGIN"}', NOT_UTF8),
        (b'{"userId":"u","eventType":"LOGIN","x":1e400', "The JSON is not valid: expecting ',' delimiter."),
        (b"null", NOT_AN_OBJECT),
        (b"[]", NOT_AN_OBJECT),
        (b'[{"userId":"u","eventType":"LOGIN"}]', NOT_AN_OBJECT),
        (b'"userId"', NOT_AN_OBJECT),
        (b"5", NOT_AN_OBJECT),
        (b"[" * 100_000, DEEP_JSON),
        (b'{"payload":' * 100_000, DEEP_JSON),
        (b'{"a":1e400,"b":' + b"[" * 100_000, DEEP_JSON),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, bytes) else "",
)
def test_what_is_no_json_object_has_one_problem(raw: bytes, problem: str) -> None:
    assert sentences(validate_user_event(raw)) == [problem]


def test_every_problem_is_listed_at_once() -> None:
    raw = b'{"userId":"a\\u0000","eventType":5,"payload":[1],"zz":1,"a`\\n":2}'
    assert sentences(validate_user_event(raw)) == [
        USER_ID,
        EVENT_TYPE,
        PAYLOAD,
        "Unknown field `zz`, `a??`; the fields are userId, eventType, payload.",
        NUL,
    ]


def test_every_problem_of_a_payload_is_listed_at_once() -> None:
    leaves = '"i":18446744073709551616,"f":1e300,"t":1e-400,"n":"\\u0000","s":"\\ud800","l":"' + "x" * 17_000 + '"'
    found = sentences(validate_user_event(command_json(f'{{{leaves},"d":{nested(17)}}}')))
    assert sorted(found) == sorted([TINY, NUL, DEEP, LARGE, INTEGER, FRACTION, SURROGATE])


def test_a_number_too_large_hides_no_other_problem() -> None:
    raw = b'{"userId":1e400,"eventType":"x","payload":{"x":"\\u0000"}}'
    assert sentences(validate_user_event(raw)) == [HUGE, USER_ID, EVENT_TYPE, NUL]


def test_missing_fields_are_named() -> None:
    assert sentences(validate_user_event(b"{}")) == [
        "Field `userId` is required: it must be a string of 1 to 256 characters without control characters.",
        "Field `eventType` is required: it must be one of LOGIN, LOGOUT, PRODUCT_VIEW.",
    ]
    assert [sentence.split("`")[1] for sentence in sentences(validate_complete_user_event(b"{}"))] == [
        "eventId",
        "userId",
        "eventType",
        "timestamp",
    ]


@pytest.mark.parametrize("name", ["userid", "USERID", "user_id", "eventId", "timestamp", "extra", ""])
def test_an_unknown_field_is_refused(name: str) -> None:
    raw = body(**{name: EVENT_ID})
    assert sentences(validate_user_event(raw)) == [
        f"Unknown field `{name}`; the fields are userId, eventType, payload."
    ]


def test_many_unknown_fields_make_one_short_sentence() -> None:
    found = sentences(validate_user_event(body(**{f"field{n:060}": n for n in range(100)})))
    assert len(found) == 1
    assert "and 95 more" in found[0]
    assert len(found[0]) < 400


def test_no_value_of_the_input_is_repeated() -> None:
    found = sentences(
        validate_user_event(b'{"userId":["secret"],"eventType":"secret","payload":"secret","x":"secret"}')
    )
    assert len(found) == 4
    assert "secret" not in " ".join(found)


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00.000001Z", datetime(2026, 1, 31, 12, microsecond=1, tzinfo=UTC)),
        ("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31T12:00:00-23:59", datetime(2026, 2, 1, 11, 59, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("payload", ["{}", '{"zero":0.0}'], ids=["fast path", "slow path"])
def test_a_timestamp_comes_back_in_utc(text: str, utc: datetime, payload: str) -> None:
    event = validate_complete_user_event(event_json(payload).replace(b"2026-01-31T12:00:00Z", text.encode()))
    assert isinstance(event, UserEvent), sentences(event)
    assert event.timestamp == utc
    assert event.timestamp.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T12:00:00",  # no offset: whose noon?
        "2026-01-31",
        "2026-02-30T12:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:00:60Z",
        "2026-01-31T12:00:00+24:00",
        "yesterday",
        "",
    ],
)
def test_a_timestamp_that_is_not_valid(text: str) -> None:
    raw = event_json("{}").replace(b"2026-01-31T12:00:00Z", text.encode())
    assert sentences(validate_complete_user_event(raw)) == [TIMESTAMP]


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_a_timestamp_outside_the_calendar_in_utc(text: str) -> None:
    raw = event_json("{}").replace(b"2026-01-31T12:00:00Z", text.encode())
    assert sentences(validate_complete_user_event(raw)) == [
        "Field `timestamp` lies outside the years 1 to 9999 in UTC."
    ]


@pytest.mark.parametrize("text", ["", "1", EVENT_ID[:-1], EVENT_ID + "0", "{" + EVENT_ID + "}", "urn:uuid:" + EVENT_ID])
def test_an_event_id_that_is_not_a_uuid(text: str) -> None:
    raw = event_json("{}").replace(EVENT_ID.encode(), text.encode())
    assert sentences(validate_complete_user_event(raw)) == ["Field `eventId` must be a UUID."]


def test_a_tombstone_is_no_event() -> None:
    assert sentences(from_value(None)) == ["The record has no value."]


def test_an_event_is_created_with_a_uuid_v7_and_the_present_time() -> None:
    command = ActivityCommand(user_id="u", event_type="LOGOUT", payload={"a": 1})
    before = datetime.now(UTC)
    events = [create_user_event(command, "default") for _ in range(1_000)]
    after = datetime.now(UTC)
    assert len({event.event_id for event in events}) == 1_000
    for event in events:
        assert (event.user_id, event.event_type, event.payload) == ("u", "LOGOUT", {"a": 1})
        assert before <= event.timestamp <= after
        assert event.event_id.version == 7
        made = (event.event_id.int >> 80) / 1000  # RFC 9562: 48 bits of milliseconds lead
        assert before.timestamp() - 1 < made < after.timestamp() + 1  # a machine may pause between id and time


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**66), 2**66),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-(2.0**54), 2.0**54),
    st.text(max_size=20),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


@given(user_id=st.text(max_size=260), payload=st.dictionaries(st.text(max_size=8), values, max_size=6))
def test_what_the_command_rules_accept_the_event_rules_accept_unchanged(user_id: str, payload: dict[str, Any]) -> None:
    """An accepted command must never be skipped by the projector: the two validators may not disagree."""
    command = validate_user_event(json.dumps({"userId": user_id, "eventType": "LOGIN", "payload": payload}).encode())
    if isinstance(command, Problems):
        return
    assert (command.user_id, command.payload) == (user_id, payload)
    event = create_user_event(command, "default")
    record = to_record(event, "request-1")
    assert from_value(record.value) == event
    assert encode_event(event) == record.value
