"""Commands decoded together become the records that they become one by one, or nothing."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from command_side.batch_items import Valid, items_of, validated
from contracts.record import EventRecord, key_of
from contracts.validation.rules import Problems, validate_complete_user_event
from contracts.versions import encode_event, encode_new_event
from tests.contracts.doubtful_payloads import DOUBTFUL_PAYLOADS
from tests.shipped_types import RULES, new_records

AT_MOST = 6


def item(payload: str = "{}", **fields: Any) -> str:
    """A command around a payload that is given as text."""
    return f'{json.dumps({"userId": "u", "eventType": "LOGIN"} | fields)[:-1]},"payload":{payload}}}'


def records(items: list[str], *, lines: bool = False) -> list[EventRecord] | None:
    body = "\n".join(items) if lines else f"[{','.join(items)}]"
    return new_records(body.encode("utf-8", "surrogatepass"), "request-1", "default", lines=lines, at_most=AT_MOST)


PLAIN = item('{"productId":"p-1","referrer":"https://example.com:80/"}')
SOUND = item(
    '{"price":12.5,"discount":0.0,"count":3,"mfa":true,"none":null,"tags":["a:b",{":":"\\":"}]}', userId="Ünï:"
)
NO_PAYLOAD = '{"userId":"u","eventType":"LOGOUT"}'
SPACED = '{ "userId" : "a : b" , "eventType" :\t"LOGOUT" , "payload" : { } }'

# Each is refused, or needs a second look: one by one, the slow way decides.
DOUBTFUL = {
    **{name: item(payload) for name, payload in DOUBTFUL_PAYLOADS.items()},
    "nothing": "",
    "no command": '"text"',
    "an idempotency key": PLAIN.replace("{", '{"idempotencyKey":"k",', 1),
    "the server's fields": PLAIN.replace("{", '{"eventId":"01980000-0000-7000-8000-000000000001",', 1),
    "broken JSON": PLAIN[:-1],
    "an escaped colon": item('{"a":"\\u003a"}'),
    "an escaped colon in capitals": item('{"a":"\\u003A"}'),
    "a control character in the user": item(userId="a\u0007b"),
    "a user that is too long": item(userId="u" * 257),
    "no user": item(userId=""),
    "an unknown type": item(eventType="CLICK"),
    "far too deep": item("[" * 100_000),
    "a repeated user": '{"userId":"a","userId":"b","eventType":"LOGIN"}',
    "a repeated user, one escaped": '{"userId":"a","\\u0075serId":"b","eventType":"LOGIN"}',
    "a repeated payload, empty": '{"userId":"a","eventType":"LOGIN","payload":{},"payload":{}}',
    "a repeated payload, the first gone": '{"userId":"a","eventType":"LOGIN","payload":{"x":1},"payload":{}}',
    "a repeated key": item('{"x":1,"x":2}'),
    "a repeated key, deeper": item('{"x":[{"y":{},"y":{}}]}'),
    "a repeated key, spaced": item('{"x" : "" , "x" : ":"}'),
}


@pytest.mark.parametrize("lines", [False, True], ids=["array", "ndjson"])
@pytest.mark.parametrize("doubtful", DOUBTFUL.values(), ids=DOUBTFUL.keys())
def test_one_doubt_leaves_the_whole_batch_to_the_slow_way(doubtful: str, lines: bool) -> None:
    assert records([PLAIN, SOUND, NO_PAYLOAD, SPACED], lines=lines) is not None
    around = ([], [PLAIN], [SOUND, SPACED]) if doubtful or not lines else ([],)  # an empty line does not count
    for others in around:
        assert records([doubtful, *others], lines=lines) is None
        assert records([*others, doubtful], lines=lines) is None


@pytest.mark.parametrize(
    "gain",
    [
        item('{"a":"\\u003a"}'),
        item('{"a":"\\u003A\\u003a"}'),
        item(userId=":"),
        NO_PAYLOAD,
        item('{"a":"::::"}'),
        SPACED,
    ],
)
@pytest.mark.parametrize("loss", [text for name, text in DOUBTFUL.items() if "repeated" in name])
def test_what_one_item_drops_no_other_makes_up_for(gain: str, loss: str) -> None:
    for times in (1, 2, 3):
        assert records([loss, *[gain] * times]) is None


def test_no_items_and_too_many_are_left_to_the_slow_way() -> None:
    for lines in (False, True):
        assert records([], lines=lines) is None
        assert records([PLAIN] * AT_MOST, lines=lines) is not None
        assert records([PLAIN] * (AT_MOST + 1), lines=lines) is None


def test_each_line_is_an_item() -> None:
    head, tail = PLAIN[: PLAIN.index(",") + 1], PLAIN[PLAIN.index(",") + 1 :]
    assert records(["", f" {PLAIN}\r", "\t ", SOUND, ""], lines=True) is not None
    assert records([head, tail], lines=True) is None
    assert records([PLAIN + PLAIN], lines=True) is None
    assert records([f"{PLAIN} {PLAIN}", PLAIN], lines=True) is None
    assert records([head, tail, PLAIN + PLAIN], lines=True) is None
    assert records([f"{PLAIN} {PLAIN}", head, tail], lines=True) is None
    assert records([PLAIN, "\f", PLAIN], lines=True) is None


def test_a_byte_that_is_no_utf8() -> None:
    assert new_records(b'[{"userId":"\xff","eventType":"LOGIN"}]', "r", "default", lines=False, at_most=AT_MOST) is None


strings = st.text(alphabet=':"\\ab,{}é\0\n', max_size=4)
scalars = strings | st.none() | st.booleans() | st.integers(-(2**66), 2**66) | st.floats(allow_nan=False)
nested = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strings, inner, max_size=3))


def text_of(pairs: list[tuple[str, Any]], ascii_only: bool, colon: str) -> str:
    """An object of these members, repeats and all."""
    members = [
        json.dumps(key, ensure_ascii=ascii_only) + colon + json.dumps(member, ensure_ascii=ascii_only)
        for key, member in pairs
    ]
    return f"{{{','.join(members)}}}"


payloads = st.builds(
    text_of,
    st.lists(st.tuples(strings, nested), max_size=4),
    st.booleans(),
    st.sampled_from([":", " :", "\t: ", " : "]),
)
colons_escaped = payloads.map(lambda text: text.replace('":"', '"\\u003a"'))
items = (
    st.builds(lambda payload, user: item(payload, userId=user), payloads | colons_escaped, st.text(max_size=5))
    | st.builds(item, payloads | colons_escaped)
    | st.sampled_from([PLAIN, SOUND, NO_PAYLOAD, SPACED, *DOUBTFUL.values()])
)
gaps = st.sampled_from(["", " ", "\r", "\n", " \n\n", "\f"])


def one_by_one(body: bytes, found: list[EventRecord], tenant: str, *, lines: bool) -> list[EventRecord]:
    """What the items of the body become one by one, with the ids and the time that were found."""
    split = items_of(body, lines=lines)
    assert not isinstance(split, Problems)
    made = []
    for each, record in zip(split, found, strict=True):
        valid = validated(each, RULES)
        assert isinstance(valid, Valid)
        assert valid.key is None
        event = validate_complete_user_event(record.value)
        assert not isinstance(event, Problems)
        headers = [
            ("event-type", valid.command.event_type.encode()),
            ("event-id", str(event.event_id).encode()),
            ("request-id", b"request-1"),
        ]
        assert event.tenant_id == tenant
        value = encode_new_event(valid.command, str(event.event_id), event.timestamp, tenant)
        assert value == encode_event(event)
        made.append(EventRecord(key_of(tenant, valid.command.user_id), value, headers))
    return made


@given(st.lists(st.tuples(items, gaps), min_size=1, max_size=4), st.booleans(), st.sampled_from(["default", "acme"]))
@example([(PLAIN, ""), (SOUND, " "), (NO_PAYLOAD, "\r"), (SPACED, "\n")], False, "default")
@example([(PLAIN, ""), (SOUND, " "), (NO_PAYLOAD, "\r"), (SPACED, "\n")], True, "acme")
def test_a_batch_is_what_its_items_are_one_by_one(batch: list[tuple[str, str]], lines: bool, tenant: str) -> None:
    separator, around = ("\n", "%s") if lines else (",", "[%s]")
    text = around % separator.join(each + gap for each, gap in batch)
    body = text.encode("utf-8", "surrogatepass")
    found = new_records(body, "request-1", tenant, lines=lines, at_most=AT_MOST)
    if found is not None:
        assert found == one_by_one(body, found, tenant, lines=lines)
        assert len({record.event_id for record in found}) == len(found)


plain = st.dictionaries(st.text("abc é:"), st.text("xyz ü:") | st.integers(-9, 9) | st.lists(st.booleans()))


@given(st.lists(plain, min_size=1, max_size=AT_MOST), st.booleans(), st.booleans(), st.integers(0, 1))
def test_plain_commands_are_never_in_doubt(found: list[Any], lines: bool, ascii_only: bool, indent: int) -> None:
    texts = [json.dumps(one, ensure_ascii=ascii_only, indent=None if lines else indent) for one in found]
    assert records([item(text) for text in texts], lines=lines) is not None
