"""However large a batch is, what is judged without a look at others is small."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_side.batch_items import (
    MAX_ITEMS,
    SLICE_BYTES,
    items_of,
    may_be_judged_at_once,
    slices,
    validated,
    written_lines,
)
from command_side.batch_submission import Turns
from contracts.event import MAX_PAYLOAD_BYTES, MAX_USER_ID_LENGTH
from contracts.validation.large_payloads import LARGE_COMMAND, LARGE_PAYLOAD, surely_too_large
from contracts.validation.rules import Problems
from tests.shipped_types import RULES, validate_user_event


def command(payload: Any, user_id: str = "u", **more: Any) -> bytes:
    fields = {"userId": user_id, "eventType": "LOGIN", "payload": payload, **more}
    return json.dumps(fields, separators=(",", ":")).encode()


def nested(size: int) -> list[Any]:
    """Lists of lists, about so many bytes of JSON."""
    return [[[[[[[[[[]]]]]]]]] for _ in range(size // 21)]


NESTED = command({"a": nested(16_000)})


def test_the_usual_batch_is_judged_at_once() -> None:
    usual = command({"productId": "p-42", "price": 12.5, "tags": ["a", "b"], "from": {"page": "home"}})
    assert may_be_judged_at_once(b"[" + b",".join([usual] * MAX_ITEMS) + b"]", lines=False)


@pytest.mark.parametrize("body", [b"[" + b",".join([NESTED] * 64) + b"]", b"[" + b"[]," * 300_000 + b"[]]"])
def test_a_body_of_many_parts_is_not(body: bytes) -> None:
    assert not may_be_judged_at_once(body, lines=False)
    assert not may_be_judged_at_once(body.replace(b"},{", b"}\n{")[1:-1], lines=True)
    assert not may_be_judged_at_once(b"\n" * 1_000_000, lines=True)


@given(st.lists(st.binary(max_size=40_000), min_size=1, max_size=30))
def test_slices_are_the_items_in_order_each_small_or_one_item(items: list[bytes]) -> None:
    found = list(slices(items))
    assert [item for part in found for item in part] == items
    assert all(part and (len(part) == 1 or sum(map(len, part)) <= SLICE_BYTES) for part in found)


async def test_everybody_else_has_a_turn_after_each_slice() -> None:
    items = [NESTED] * 20
    turns_of_others, done = 0, 0
    turns_at: list[int] = []

    async def others() -> None:
        nonlocal turns_of_others
        while True:
            turns_of_others += 1
            await asyncio.sleep(0)

    def work(_: bytes) -> None:
        nonlocal done
        done += 1
        turns_at.append(turns_of_others)

    watching = asyncio.create_task(others())
    turns = Turns()
    await asyncio.gather(turns.map(work, items), turns.map(work, items))  # two at a time take turns, too
    watching.cancel()
    assert done == len(set(turns_at)) == 40


def test_an_item_larger_than_any_sound_one_is_refused_unread() -> None:
    assert validated(command({"a": nested(400_000)}), RULES) == Problems([LARGE_COMMAND])
    assert validated(command({"a": nested(20_000)}), RULES) == Problems([LARGE_PAYLOAD])


COMMAS = command({"a": "," * (MAX_PAYLOAD_BYTES - 8)}, "," * MAX_USER_ID_LENGTH, idempotencyKey="," * 255)
BACKSLASHES = command({"a": "\\" * ((MAX_PAYLOAD_BYTES - 8) // 2)}, '"' * MAX_USER_ID_LENGTH)
ESCAPED = command({"a": "@" * (MAX_PAYLOAD_BYTES - 8)}).replace(b"@", b"\\u002c")
LISTS = command({"a": [[]] * 5_458})


@pytest.mark.parametrize("body", [COMMAS, BACKSLASHES, ESCAPED, LISTS, b" " * 900_000 + LISTS])
def test_no_sound_command_is_taken_for_too_large(body: bytes) -> None:
    assert not surely_too_large(body)
    assert not isinstance(validated(body, RULES), Problems)


def test_what_is_too_large_is_not_looked_into_but_its_other_fields_are() -> None:
    found = validate_user_event(command({"a": [1e300] * 9_000, "b": nested(9_000)}, user_id="", extra=1))
    assert isinstance(found, Problems)
    assert found.sentences[-1] == LARGE_PAYLOAD
    assert len(found.sentences) == 3


@given(st.lists(st.sampled_from([b"", b" ", b"\t\r", b"{}", b" {} ", b"\x0b1", b"a b"]), max_size=20))
def test_lines_are_those_that_are_not_empty(lines: list[bytes]) -> None:
    body = b"\n".join(lines)
    assert written_lines(body) == [line for line in body.split(b"\n") if line.strip()]


@pytest.mark.parametrize(("body", "lines"), [(b"[" + b"1," * 400_000 + b"1]", False), (b"1\n" * 400_000, True)])
def test_far_too_many_items_are_refused_without_a_look_at_each(body: bytes, lines: bool) -> None:
    assert items_of(body, lines=lines) == Problems(["The batch has more than 1,000 items."])
    assert len(written_lines(body)) <= MAX_ITEMS + 1
