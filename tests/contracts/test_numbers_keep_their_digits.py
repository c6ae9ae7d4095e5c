"""A command's number is stored as the decimal value that was written, or the command is refused."""

import json
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.event import ActivityCommand, UserEvent
from contracts.record import from_value, new_record
from contracts.validation.rules import Problems
from tests.shipped_types import new_records, validate_user_event

DIGITS = "A number has more digits than a double-precision number keeps; send it as a string."


TEXT = "id-0.12345678901234567890-0e-1234"
DOUBTFUL_TEXT = "numbers:0.1234567890123456789, or 0.1.2.3.4.5.6.7.8.9.10"


def command(number: str, text: str = TEXT) -> bytes:
    return f'{{"userId":"u","eventType":"LOGIN","payload":{{"text":"{text}","n":[{number},7]}}}}'.encode()


KEPT = ["0.1", "1e2", "1.0", "0.0", "-0.0", "1E+2", "0.10", "19.99", "1.5e-7", "0.30000000000000004", "5e-324",
        "9007199254740992.0", "1e15", "1000000000000000000e-18", "0.10000000000000000", "1.5e-290",
        "12345678901234567890", "-9223372036854775808", "4503599627370495.5"]  # fmt: skip
ROUNDED = ["0.12345678901234567890", "1.00000000000000000001", "9007199254740991.5", "9007199254740993.0",
           "0.10000000000000001", "4e-324", "2.2250738585072011e-310", "1234567890123456.78", "12345678901234567e-3",
           "1234567890123456.78E+0"]  # fmt: skip


@pytest.mark.parametrize("number", KEPT)
def test_a_number_that_a_double_says_as_shortly_is_kept(number: str) -> None:
    found = validate_user_event(command(number))
    assert isinstance(found, ActivityCommand), found
    stored = json.loads(new_record(found, "r", "default").value, parse_float=Decimal, parse_int=Decimal)
    assert stored["payload"]["n"][0] == Decimal(number)
    tiny = number in ("5e-324", "1.5e-290")  # the quick check leaves these in doubt
    assert (new_records(command(number), "r", "default", lines=True, at_most=1) is None) == tiny
    assert isinstance(validate_user_event(command(number, DOUBTFUL_TEXT)), ActivityCommand)


@pytest.mark.parametrize("number", ROUNDED)
def test_a_number_that_would_be_rounded_is_refused_once(number: str) -> None:
    assert validate_user_event(command(f"{number},{number}")) == Problems([DIGITS])
    assert new_records(command(number), "r", "default", lines=True, at_most=1) is None


def test_such_a_number_in_the_log_already_becomes_the_nearest_double_as_ever() -> None:
    event = from_value(
        b'{"eventId":"01980000-0000-7000-8000-000000000001","userId":"u","eventType":"LOGIN",'
        b'"timestamp":"2026-01-31T12:00:00Z","payload":{"n":0.12345678901234567890}}'
    )
    assert isinstance(event, UserEvent)
    assert event.payload == {"n": 0.12345678901234568}


numbers = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "-"]),
    st.integers(0, 10**20).map(str),
    st.just("") | st.text("0123456789", min_size=1, max_size=25).map(".{}".format),
    st.just("") | st.builds("{}{}".format, st.sampled_from(["e", "E+", "e-"]), st.integers(0, 330)),
) | st.floats(allow_nan=False, allow_infinity=False).map(repr)


@given(
    st.lists(numbers, min_size=1, max_size=3), st.sampled_from(["", " ", "\t"]), st.sampled_from([TEXT, DOUBTFUL_TEXT])
)
@example(["0.1", "1.00000000000000000001"], "", "")
def test_what_is_accepted_is_never_rounded(written: list[str], space: str, text: str) -> None:
    body = command(f"{space},{space}".join(written) + space, text)
    found = validate_user_event(body)
    together = new_records(body, "r", "default", lines=True, at_most=1)
    assert together is None or isinstance(found, ActivityCommand)
    if isinstance(found, ActivityCommand):
        stored = json.loads(new_record(found, "r", "default").value, parse_float=Decimal, parse_int=Decimal)
        assert stored["payload"]["n"][:-1] == [Decimal(number) for number in written]


@given(st.lists(st.floats(-(2**53), 2**53), min_size=1))
def test_every_double_as_javascript_or_python_writes_it_is_accepted(found: list[float]) -> None:
    assert isinstance(validate_user_event(command(",".join(map(repr, found)))), ActivityCommand)
