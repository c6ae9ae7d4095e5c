"""What the console computes from its looks: paces, time left, what a minute brought; and one read for all viewers."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import msgspec
import pytest

from console.looking.history import furthest_behind, lags_of, measured, with_gaps
from console.looking.joint_reads import JointReads
from console.looking.scrape import ProcessSeen, samples_of
from console.looking.watch import NOTHING_YET, Pace, Seen, paces_between, time_left
from console.pages.retention import by_cohort, columns, label
from console.rendering import prose, rendered, stamp
from operations.misplaced_records import Misplaced
from operations.status.report import GenerationStatus, PartitionStatus, SinkStatus, Status

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def looked(number: int, second: float, checkpoints: Sequence[int], ends: Sequence[int], published: float = 0) -> Seen:
    """A look at one generation, with what a command side said."""
    partitions = [
        PartitionStatus(place, "running", "one", at, end, end - at, 1.0)
        for place, (at, end) in enumerate(zip(checkpoints, ends, strict=True))
    ]
    status = Status(NOON, "t", [GenerationStatus("read_g1", "active", 1.0, partitions)], [], [], Misplaced(0, 0))
    text = (
        f'publish_round_seconds_bucket{{le="0.1"}} {published}\npublish_round_seconds_bucket{{le="+Inf"}} {published}\n'
    )
    side = ProcessSeen("http://side", samples=samples_of(text))
    return Seen(number, NOON + timedelta(seconds=second), status, [side], ())


def test_who_is_slowest_decides_when_all_have_caught_up() -> None:
    before, now = looked(1, 0, [0, 0], [1000, 1000]), looked(2, 10, [100, 20], [1000, 1100])
    paces = paces_between(before, now.status, now.at, {})
    assert paces == {("read_g1", 0): Pace(10, 0), ("read_g1", 1): Pace(2, 10)}
    partitions = now.partitions()
    assert paces["read_g1", 0].left(900) == 90
    assert time_left(partitions[:1], "read_g1", paces) == 90
    assert time_left(partitions, "read_g1", paces) is None, "the second grows faster than it is read"
    assert time_left(partitions, "read_g1", {}) is None, "nothing is known yet"
    caught_up = looked(3, 20, [1000, 1100], [1000, 1100])
    assert time_left(caught_up.partitions(), "read_g1", {}) == 0.0
    smoothed = paces_between(now, looked(3, 20, [300, 20], [1000, 1100]).status, NOON + timedelta(seconds=20), paces)
    assert smoothed["read_g1", 0] == Pace(15, 0)


def test_a_log_that_was_made_anew_has_no_pace_below_nothing() -> None:
    before, now = looked(1, 0, [900], [1000]), looked(2, 10, [0], [5])
    assert paces_between(before, now.status, now.at, {}) == {("read_g1", 0): Pace(0, 0)}
    assert paces_between(NOTHING_YET, now.status, now.at, {}) == paces_between(before, None, now.at, {}) == {}


def test_what_is_not_known_is_not_measured_as_nothing() -> None:
    before, now = looked(1, 0, [0], [0], 0), looked(2, 10, [50], [100], 40)
    found = measured(before, now, (0.1, 0.2))
    assert (found["accepted"], found["projected"], found["lag"]) == (10, 5, 50)
    assert (found["post_p50"], found["visible_p99"]) == (0.05, 0.2)
    away = msgspec.structs.replace(now, status=None)
    assert set(measured(before, away, (None, None)).values()) == {None}
    silent = msgspec.structs.replace(now, processes=[ProcessSeen("http://side", "it does not answer in time")])
    without = measured(before, silent, (None, None))
    assert (without["streams"], without["refused"], without["post_p99"], without["lag"]) == (None, None, None, 50)
    anew = measured(now, looked(3, 20, [0], [5]), (None, None))
    assert (anew["accepted"], anew["projected"]) == (None, None), "it fell: both count in different histories"


def test_no_line_is_drawn_over_time_that_nobody_measured() -> None:
    assert with_gaps({"at": [10.0, 20.0, 40.0, 90.0], "lag": [1, 2, 3, 4]}, 10) == {
        "at": [10.0, 20.0, 40.0, 50.0, 90.0],
        "lag": [1, 2, 3, None, 4],
    }
    assert with_gaps({"at": [], "lag": []}, 10) == {"at": [], "lag": []}


def test_the_furthest_behind_have_lines_of_their_own() -> None:
    rows = [(float(at), partition, partition * at) for at in (1, 2) for partition in range(6)]
    assert furthest_behind(rows) == {
        "at": [1.0, 2.0],
        **{f"partition {each}": [each, 2 * each] for each in (3, 4, 5)},
        "others, at most": [2, 4],
    }
    assert furthest_behind([]) == {"at": []}
    assert lags_of(looked(1, 0, [1, 2], [4, 2])) == [3, 0]
    assert lags_of(NOTHING_YET) is None
    assert lags_of(looked(1, 0, [0] * 101, [0] * 101)) is None, "a row is bounded"


async def test_viewers_share_one_read_and_its_failure() -> None:
    shared, asked, go = JointReads(60), 0, asyncio.Event()

    async def read() -> bytes:
        nonlocal asked
        asked += 1
        await go.wait()
        return b"answer"

    async def fail() -> bytes:
        await go.wait()
        raise OSError

    viewers = [asyncio.create_task(shared.once("15m", read)) for _ in range(64)]
    failing = [asyncio.create_task(shared.once("7d", fail)) for _ in range(2)]
    await asyncio.sleep(0)
    viewers[0].cancel()  # who leaves ends nobody else's read
    go.set()
    assert await asyncio.gather(*viewers[1:]) == [b"answer"] * 63
    assert await shared.once("15m", read) == b"answer"
    assert asked == 1
    assert [type(each) for each in await asyncio.gather(*failing, return_exceptions=True)] == [OSError] * 2
    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        await shared.once("7d", fail)


def test_a_sentence_is_text_but_for_the_commands_that_it_quotes() -> None:
    assert prose("See `footfall dlq list`, <b>\u202e`") == "See <code>footfall dlq list</code>, &lt;b&gt;\\u202e`"
    assert prose("`<script>`") == "<code>&lt;script&gt;</code>"
    assert stamp("2026-11-26T12:43:52.137492Z") == "2026-11-26 12:43:52"


def test_a_cohort_is_plotted_only_where_the_week_is_over() -> None:
    this = datetime.now(UTC).date()
    monday = this - timedelta(days=this.weekday())
    old, new = monday - timedelta(weeks=2), monday
    cohorts: Mapping[date, dict[int, int]] = by_cohort([(old, 0, 10), (old, 1, 5), (new, 0, 3)])
    assert cohorts == {old: {0: 10, 1: 5}, new: {0: 3}}
    found = columns(dict(cohorts))
    assert (len(found["at"]), found[label(1)], found[label(2)]) == (1, [50.0], [None])


def test_the_page_of_projectors_shows_generations_and_sinks() -> None:
    partition = PartitionStatus(0, "running", "somebody", 5, 9, 4, 1.5)
    text = rendered(
        "projectors_part.html",
        seen=SimpleNamespace(processes=[], number=1),
        generations=[GenerationStatus("read_g1", "active", 0.5, [partition])],
        sinks=[SinkStatus("duckdb", 0.5, [partition], parked=3), SinkStatus("opensearch", 0.5, [partition])],
        paces={},
        asking=SimpleNamespace(can_act=True),
        token="t",
    )
    assert [text.count(f"<h2>{name} ") for name in ("read_g1", "duckdb", "opensearch")] == [1, 1, 1]
    assert text.count("dead letters wait") == 1
    assert "3 dead letters" in text
