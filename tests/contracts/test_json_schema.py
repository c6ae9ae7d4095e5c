"""The JSON Schema derived from the structs says the same as the validators, but for what a schema cannot say.

Beyond any schema are: the payload's encoded size and depth, numbers that PostgreSQL's jsonb would change, U+0000,
text that is not JSON at all, and whether a date exists in UTC's calendar. Those rules are `ONLY_THE_VALIDATOR`; every
other problem must be the schema's too, and the schema must refuse nothing that the validator takes.
"""

import json
import os
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts.event import ActivityCommand, UserEvent
from contracts.validation.rules import Problems, validate_complete_user_event
from contracts.versions import UserEventV1
from tests.shipped_types import validate_user_event

EXAMPLES = 1_000 if os.environ.get("FOOTFALL_LONG") else 100
ONLY_THE_VALIDATOR = (
    "Field `payload` is nested",
    "Field `payload` is larger",
    "Field `payload` has an integer",
    "Field `payload` has a fractional",
    "Field `timestamp` lies outside",
    "A number is too",
    "A number has more digits",
    "A string contains the character U+0000",
)

command_schema = jsonschema_rs.Draft202012Validator(msgspec.json.schema(ActivityCommand), validate_formats=True)
event_schema = jsonschema_rs.Draft202012Validator(msgspec.json.schema(UserEventV1), validate_formats=True)


def structural(found: object) -> list[str]:
    """The validator's complaints that a schema can share."""
    if not isinstance(found, Problems):
        return []
    return [sentence for sentence in found.sentences if not sentence.startswith(ONLY_THE_VALIDATOR)]


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10)
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
objects = st.dictionaries(st.text(max_size=5), anything, max_size=4)
user_ids = (
    st.text(max_size=4)
    | st.text(min_size=254, max_size=258)
    | st.sampled_from(["", "\n", "u\n", "\u0085", "\u007f", "\u2028", "\0"])
    | anything
)
event_types = st.sampled_from(["LOGIN", "LOGOUT", "PRODUCT_VIEW", "login", ""]) | anything
timestamps = (
    st.datetimes(timezones=st.timezones() | st.none()).map(lambda moment: moment.replace(microsecond=0).isoformat())
    | st.sampled_from(["2026-01-31T12:00:00Z", "2026-02-30T12:00:00Z", "2026-01-31", "noon"])
    | st.builds(
        "{}T{}:{}:{}{}{}".format,
        st.sampled_from(["2016-12-31", "2026-06-15"]),
        st.sampled_from(["23", "15", "00", "24"]),
        st.sampled_from(["59", "29", "58"]),
        st.sampled_from(["59", "60", "61"]),
        st.sampled_from(["", ".5", ".9999999", ".123456789012"]),
        st.sampled_from(["Z", "+00:00", "-08:00", "+00:30", "z"]),
    )
    | scalars.filter(lambda value: not isinstance(value, str))
)
event_ids = st.uuids().map(str) | st.sampled_from(["", "1", "{}"]) | anything
extras = st.dictionaries(st.text(max_size=5) | st.sampled_from(["user_id", "payloads"]), anything, max_size=1)


def bodies(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with each field mostly there, and rarely one that does not belong."""
    return st.builds(
        lambda known, extra: {**extra, **known},
        st.fixed_dictionaries({}, optional=fields) | st.fixed_dictionaries(fields),
        st.just({}) | extras,
    )


commands = bodies(userId=user_ids, eventType=event_types, payload=objects | anything)
events = bodies(
    eventId=event_ids, userId=user_ids, eventType=event_types, timestamp=timestamps, payload=objects | anything
)
valid_commands = st.fixed_dictionaries(
    {"userId": st.text(min_size=1, max_size=256), "eventType": st.sampled_from(["LOGIN", "LOGOUT"])},
    optional={"payload": objects},
)


@settings(max_examples=EXAMPLES)
@given(commands | valid_commands | anything)
@example({"userId": "x" * 256, "eventType": "LOGIN"})
@example({"userId": "😀" * 256, "eventType": "LOGIN"})
@example({"userId": "😀" * 257, "eventType": "LOGIN"})
@example({"userId": "u\n", "eventType": "LOGIN"})
@example({"userId": "u", "eventType": "LOGIN", "payload": None})
@example({"userId": "u", "eventType": "LOGIN", "payload": {"x": 2**64}})
def test_schema_and_validator_agree_on_commands(body: Any) -> None:
    complaints = structural(validate_user_event(json.dumps(body).encode()))
    assert command_schema.is_valid(body) == (not complaints), complaints


@settings(max_examples=EXAMPLES)
@given(events)
@example({"eventId": "01980000-0000-7000-8000-000000000001", "userId": "u", "eventType": "LOGIN", "timestamp": "x"})
@example(
    {
        "eventId": "01980000-0000-7000-8000-000000000001",
        "userId": "u",
        "eventType": "LOGIN",
        "timestamp": "2026-01-31T12:00:00Z",
    }
)
def test_schema_and_validator_agree_on_events(body: Any) -> None:
    complaints = structural(validate_complete_user_event(json.dumps(body).encode()))
    assert event_schema.is_valid(body) == (not complaints), complaints


@pytest.mark.parametrize(
    "payload",
    [
        {"x": 2**64},
        {"x": 1e300},
        {"x": "\0"},
        {"x": "x" * 17_000},
        json.loads('{"a":' * 17 + "1" + "}" * 17),
    ],
    ids=["integer", "fraction", "NUL", "size", "depth"],
)
def test_what_the_schema_cannot_say_only_the_validator_refuses(payload: dict[str, Any]) -> None:
    body = {"userId": "u", "eventType": "LOGIN", "payload": payload}
    found = validate_user_event(json.dumps(body).encode())
    assert isinstance(found, Problems)
    assert structural(found) == []
    assert command_schema.is_valid(body)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("eventId", "01980000000070008000000000000001"),  # no hyphens
        ("timestamp", "2026-01-31 12:00:00Z"),  # a space for the T
        ("timestamp", "2026-01-31T12:00:00+0200"),  # no colon in the offset
    ],
)
def test_the_event_validator_is_more_lenient_than_the_formats_only_here(field: str, text: str) -> None:
    body = {
        "eventId": "01980000-0000-7000-8000-000000000001",
        "userId": "u",
        "eventType": "LOGIN",
        "timestamp": "2026-01-31T12:00:00Z",
        field: text,
    }
    assert isinstance(validate_complete_user_event(json.dumps(body).encode()), UserEvent)
    assert not event_schema.is_valid(body)
