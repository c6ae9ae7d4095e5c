"""A zero that was written as one needs no second look; a number that became zero is found however it is written."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.validation.json_text import surely_no_number_vanishes, text_problems

digits = st.text("09", min_size=1, max_size=3)
numbers = st.builds(
    lambda sign, whole, fraction, exponent: f"{sign}{whole}{fraction}{exponent}",
    st.sampled_from(["", "-"]),
    st.sampled_from(["0", "1", "90"]),
    st.just("") | digits.map(".{}".format) | st.integers(300, 340).map(lambda n: "." + "0" * n + "7"),
    st.just("")
    | st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 400)),
)
spaces = st.sampled_from(["", " ", "\n", "\t", "\r"])


@given(st.lists(st.tuples(spaces, numbers, spaces), min_size=1), st.booleans())
@example([("", "1e-400", "")], True)
@example([("", "1.5e-400", "")], True)
@example([("", "-0.0e-1", "")], False)
@example([("", f"0.{'0' * 323}2e0", "")], False)
def test_a_number_that_vanishes_is_never_missed(found: list[tuple[str, str, str]], in_object: bool) -> None:
    inside = [before + number + after for before, number, after in found]
    members = ",".join(f'"{n}":{number}' for n, number in enumerate(inside))
    text = f"{{{members}}}" if in_object else f"[{','.join(inside)}]"
    json.loads(text)
    vanishes = any("too small" in problem for problem in text_problems(text.encode()))
    assert not (vanishes and surely_no_number_vanishes(text.encode()))


@pytest.mark.parametrize(
    "text",
    [
        b'{"price":0.0,"discount":-0.0,"count":0}',
        b'{"id":"01a206ad-9fbe-76d7-8e-35-26603b9ca3cd","mail":"e-mail","name":"Joe-3"}',
        b'{"large":1e3,"larger":1E+3,"small":0.000001,"list":[0.0,1.5]}',
    ],
)
def test_usual_texts_are_without_doubt(text: bytes) -> None:
    assert surely_no_number_vanishes(text)
