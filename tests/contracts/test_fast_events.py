"""A batch decoded at once gives what its values give one by one, or nothing."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.validation.fast_events import validate_events_fast
from contracts.validation.rules import Problems, validate_complete_user_event
from contracts.versions import encode_event
from tests.contracts.doubtful_payloads import DOUBTFUL_PAYLOADS

EVENT_ID = "01980000-0000-7000-8000-000000000001"


def value(payload: str = "{}", **fields: Any) -> bytes:
    """A complete event of version 1 around a payload that is given as text."""
    head = {"eventId": EVENT_ID, "userId": "u", "eventType": "LOGIN", "timestamp": "2026-01-31T12:00:00Z"} | fields
    return f'{json.dumps(head)[:-1]},"payload":{payload}}}'.encode("utf-8", "surrogatepass")


SOUND = value(
    '{"productId":"p-1","price":12.5,"discount":0.0,"count":3,"mfa":true,"none":null,"tags":["a",{"b":1}]}',
    userId="Ünï",
)
PLAIN = value('{"productId":"p-1"}')

# Each is refused, or needs a second look: one by one, the slow way decides.
DOUBTFUL = {
    **{name: value(payload) for name, payload in DOUBTFUL_PAYLOADS.items()},
    "no value": None,
    "nothing": b"",
    "a blank": b" ",
    "a line feed between its tokens": PLAIN.replace(b",", b",\n", 1),
    "two events": PLAIN + PLAIN,
    "two events on two lines": PLAIN + b"\n" + PLAIN,
    "broken JSON": PLAIN[:-1],
    "not UTF-8": PLAIN.replace(b"p-1", b"\xff"),
    "a control character in the user": value(userId="a\u0007b"),
    "a user that is too long": value(userId="u" * 257),
    "a type that is no name": value(eventType="Click"),
    "no offset": value(timestamp="2026-01-31T12:00:00"),
    "another offset than UTC": value(timestamp="2026-01-31T12:00:00+02:00"),
    "an unknown field": value(extra=1),
    "a newer version": value(version="9.0"),
    "version 2": value(version="2.0", tenantId="acme", _metadata={"schema_version": "2.0"}),
}


@pytest.mark.parametrize("doubtful", DOUBTFUL.values(), ids=DOUBTFUL.keys())
def test_one_doubt_leaves_the_whole_batch_to_the_slow_way(doubtful: bytes | None) -> None:
    assert validate_events_fast([PLAIN, SOUND]) is not None
    for values in ([doubtful], [PLAIN, doubtful], [doubtful, SOUND], [PLAIN, doubtful, SOUND]):
        assert validate_events_fast(values) is None


def test_two_halves_of_an_event_are_no_event() -> None:
    cut = PLAIN.index(b",") + 1
    halves = [PLAIN[:cut], PLAIN[cut:]]
    assert validate_events_fast(halves) is None
    assert validate_events_fast([*halves, PLAIN + PLAIN]) is None
    assert validate_events_fast([*halves, PLAIN + b" " + PLAIN]) is None


scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8)
payloads = st.dictionaries(st.text(max_size=5), scalars | st.lists(scalars, max_size=3), max_size=4)
values = (
    st.builds(lambda payload, user: value(json.dumps(payload), userId=user), payloads, st.text(max_size=12))
    | st.builds(lambda payload: value(json.dumps(payload, ensure_ascii=False)), payloads)
    | st.sampled_from([found for found in DOUBTFUL.values() if found is not None])
)


@given(st.lists(values, min_size=1, max_size=4))
def test_a_batch_is_what_its_values_are_one_by_one(batch: list[bytes]) -> None:
    found = validate_events_fast(batch)
    if found is None:
        return
    one_by_one = [validate_complete_user_event(each) for each in batch]
    assert found.events == one_by_one
    assert found.rendered == [encode_event(event) for event in one_by_one if not isinstance(event, Problems)]


@given(st.lists(st.dictionaries(st.text("abc é"), st.text("xyz ü") | st.integers(-9, 9)), min_size=1, max_size=5))
def test_plain_events_are_never_in_doubt(found: list[dict[str, Any]]) -> None:
    assert validate_events_fast([value(json.dumps(payload)) for payload in found]) is not None
