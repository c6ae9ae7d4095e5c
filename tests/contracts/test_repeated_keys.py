"""A repeated key is refused on the way in, at any depth, and never suspected where there is none."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.event import ActivityCommand
from contracts.validation.repeated_keys import repeated_key, surely_repeats_no_key
from contracts.validation.rules import Problems, validate_complete_user_event
from tests.shipped_types import validate_user_event

texts = st.text(alphabet=':"\\ab,{}é', max_size=4)
values = st.recursive(
    texts | st.integers(0, 9) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def command_text(members: list[tuple[str, Any]], *, ascii_only: bool) -> str:
    """A command whose payload has these members, repeats and all."""
    inside = ",".join(
        f"{json.dumps(key, ensure_ascii=ascii_only)} : {json.dumps(value, ensure_ascii=ascii_only)}"
        for key, value in members
    )
    return f'{{"userId":"u:1","eventType":"LOGIN","payload":{{{inside}}}}}'


@given(st.lists(st.tuples(texts, values), max_size=5), st.booleans())
@example([("a", {}), ("a", {})], False)
@example([("a", "::"), ("a", "")], False)
@example([(":", ""), (":", "")], True)
def test_exactly_the_repeats_are_refused(members: list[tuple[str, Any]], ascii_only: bool) -> None:
    raw = command_text(members, ascii_only=ascii_only).encode()
    keys = [key for key, _ in members]
    repeats = len(set(keys)) < len(keys)
    assert (repeated_key(raw) is not None) == repeats
    assert isinstance(validate_user_event(raw), Problems) == repeats
    command = msgspec.json.decode(raw, type=ActivityCommand)
    assert not (repeats and surely_repeats_no_key(command, raw))


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (b'{"userId":"a","userId":"b","eventType":"LOGIN"}', "userId"),
        (b'{"userId":"a","eventType":"LOGIN","eventType":"LOGIN"}', "eventType"),
        (b'{"userId":"payload","userId":"payload","eventType":"LOGIN"}', "userId"),
        (b'{"userId":"a","eventType":"LOGIN","payload":{},"userId":"a"}', "userId"),
        (b'{"userId":"a","eventType":"LOGIN","payload":{},"payload":{}}', "payload"),
        (b'{"userId":"a","eventType":"LOGIN","payload":{"x":1},"payload":{}}', "payload"),
        (b'{"userId":"a","eventType":"LOGIN","payload":{"x":[{"y":1,"y":1}]}}', "y"),
        (b'{"userId":"a","eventType":"LOGIN","payload":{"k":1,"\\u006b":2}}', "k"),
        (b'{"userId":"a","\\u0075serId":"b","eventType":"LOGIN"}', "userId"),
        (b'{"userId":"a","eventType":"LOGIN","payload":{"' + b"k" * 99 + b'":1,"' + b"k" * 99 + b'":1}}', "k" * 40),
    ],
)
def test_the_sentence_names_the_key(raw: bytes, key: str) -> None:
    assert validate_user_event(raw) == Problems([f"Key `{key}` occurs more than once in one object."])


@pytest.mark.parametrize(
    "raw",
    [
        b'{"userId":"a","eventType":"LOGIN"}',
        b'{"userId" : "a:b", "eventType": "LOGIN", "payload" :{}}',
        b'{"userId":"a","eventType":"LOGIN","payload":{"url":"https://example.com:80/","at":"12:00:00","n":[{"a":1},{"a":1}]}}',
        b'{"userId":"a","eventType":"LOGIN","payload":{"x":"a\\u003ab\\"c:"}}',
    ],
)
def test_colons_elsewhere_are_no_keys(raw: bytes) -> None:
    assert isinstance(validate_user_event(raw), ActivityCommand)


def test_a_record_in_the_log_keeps_the_last_value() -> None:
    raw = (
        b'{"eventId":"01980000-0000-7000-8000-000000000001","userId":"a","userId":"b","eventType":"LOGIN",'
        b'"timestamp":"2026-01-31T12:00:00Z","payload":{"x":1,"x":2}}'
    )
    event = validate_complete_user_event(raw)
    assert not isinstance(event, Problems)
    assert (event.user_id, event.payload) == ("b", {"x": 2})
