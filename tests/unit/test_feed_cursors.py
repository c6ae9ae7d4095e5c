"""A cursor of the feed says which history of the log it was made in, and is good in no other (decision 32)."""

from uuid import UUID

import msgspec
import pytest

from query_side.feed.feed_cursors import cursor_of, position_of_cursor
from query_side.log_positions.cursors import Cursors
from query_side.log_positions.positions import LOG_BEGINNING, PartitionProgress, ReaderPosition
from query_side.log_positions.served_history import (
    TAG_BYTES,
    UNTAGGED,
    AnotherHistoryError,
    ServedHistory,
    check,
    served_history,
)

CURSORS = Cursors(b"a key")
AT = {0: PartitionProgress(7, 2), 3: PartitionProgress(1)}
OLD, NEW, UNNAMED = UUID(int=1 << 100), UUID(int=2 << 100), UUID(int=0)


def of_an_earlier_version(topic: str = "t") -> str:
    return CURSORS.seal(msgspec.msgpack.encode([(p, *mark) for p, mark in AT.items()]), b"feed:" + topic.encode())


def test_a_cursor_keeps_its_marks_and_its_history_and_belongs_to_its_topic() -> None:
    tag = served_history([(OLD, [OLD], 1)]).tag
    assert len(tag) == TAG_BYTES
    cursor = cursor_of(CURSORS, "t", AT, tag)
    assert position_of_cursor(CURSORS, "t", cursor) == ReaderPosition(AT, tag)
    assert position_of_cursor(CURSORS, "u", cursor) is None


def test_another_tenants_cursors_say_nothing_and_not_even_whether_they_are_equal() -> None:
    sealed = CURSORS.of("acme")
    far = {partition: PartitionProgress(2**47, 2**40) for partition in AT}
    texts = [
        cursor_of(sealed, "t", at, b"12345678")
        for at in (AT, AT, {0: PartitionProgress(), 3: PartitionProgress()}, far)
    ]
    assert len({*texts}) == 4
    assert {len(text) for text in texts} == {len(texts[0])}
    assert position_of_cursor(sealed, "t", texts[0]) == position_of_cursor(sealed, "t", texts[1])
    assert position_of_cursor(sealed, "t", texts[3]) == ReaderPosition(far, b"12345678")


def test_a_changed_cursor_of_another_tenant_is_refused() -> None:
    sealed = CURSORS.of("acme")
    text = cursor_of(sealed, "t", AT, b"12345678")
    assert position_of_cursor(CURSORS.of("bolt"), "t", text) is None
    for at in range(len(text)):
        changed = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        assert position_of_cursor(sealed, "t", changed) is None
    assert [sealed.open(text[:end], b"") for end in range(60)] == [None] * 60


def test_a_cursor_of_an_earlier_version_is_understood_and_has_no_history() -> None:
    assert position_of_cursor(CURSORS, "t", of_an_earlier_version()) == ReaderPosition(AT, UNTAGGED)
    assert position_of_cursor(CURSORS, "u", of_an_earlier_version()) is None


def test_a_cursor_that_has_read_nothing_is_the_beginning_of_any_history() -> None:
    assert position_of_cursor(CURSORS, "t", cursor_of(CURSORS, "t", {}, b"whatever")) == LOG_BEGINNING
    check(LOG_BEGINNING.tag, served_history([(NEW, [NEW], 2)]))


def test_a_cursor_is_good_in_its_own_history_only() -> None:
    old, new = served_history([(OLD, [OLD], 1)]), served_history([(NEW, [NEW], 2)])
    check(old.tag, old)
    for tag, now in ((old.tag, new), (new.tag, old), (old.tag, ServedHistory())):
        with pytest.raises(AnotherHistoryError) as refused:
            check(tag, now)
        assert refused.value.answer.status == 410


def test_a_cursor_without_a_history_is_good_only_while_the_first_is_served() -> None:
    check(UNTAGGED, ServedHistory())
    check(UNTAGGED, served_history([(OLD, [OLD], 1), (None, None, None)]))
    check(UNTAGGED, served_history([(OLD, None, None)]))  # about to be numbered
    for later in ([(NEW, [NEW], 2)], [(OLD, [OLD, UNNAMED], 2)], [(OLD, [OLD], 1), (NEW, None, None)]):
        with pytest.raises(AnotherHistoryError):
            check(UNTAGGED, served_history(later))


def test_partitions_added_to_a_topic_leave_cursors_good_and_those_of_a_topic_made_anew_do_not() -> None:
    one = served_history([(OLD, [OLD], 1)])
    check(one.tag, served_history([(OLD, [OLD], 1), (OLD, [OLD], 1)]))
    mixed = served_history([(OLD, [OLD], 1), (NEW, [NEW], 2)])  # the new topic has a partition more
    for tag, now in ((one.tag, mixed), (mixed.tag, served_history([(NEW, [NEW], 2)]))):
        with pytest.raises(AnotherHistoryError):
            check(tag, now)
