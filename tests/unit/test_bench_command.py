"""`make bench`: a benchmark that ends with an error takes the figures of no other with it, and is no missed goal."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

import bench.__main__ as command
from bench import report
from bench.commands import post
from bench.result import Result, absolute


def broken(_stage: Any, *_: Any) -> list[Result]:
    raise ValueError("a statement without its parameter")


def sound(_stage: Any) -> list[Result]:
    return [absolute("sound", "events", [7.0], ("==", 7))]


def missed(_stage: Any) -> list[Result]:
    return [absolute("missed", "events", [6.0], ("==", 7))]


@pytest.mark.parametrize(
    ("names", "code", "rows"),
    [
        (["sound"], 0, ["sound"]),
        (["sound", "missed"], 1, ["sound", "missed"]),
        (["broken", "missed", "sound"], 2, ["missed", "sound"]),
    ],
)
def test_what_ends_with_an_error_is_told_apart_from_a_missed_goal(
    names: list[str], code: int, rows: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    stage = nullcontext(SimpleNamespace(say=print))
    benchmarks = {"broken": broken, "sound": sound, "missed": missed}
    written: list[Result] = []
    run = command.main.callback
    assert run is not None
    with (
        patch.object(command, "stage", lambda *_: stage),
        patch.object(post, "warm_up", lambda _: None),
        patch.dict(command.BENCHMARKS, benchmarks),
        patch.object(report, "write", written.extend),
        pytest.raises(SystemExit) as ended,
    ):
        run(tuple(names), 1, (), list_only=False)
    assert ended.value.code == code
    assert [row.name for row in written] == rows
    assert ("a statement without its parameter" in capsys.readouterr().err) == (code == 2)


def test_servers_that_do_not_start_are_no_missed_goal() -> None:
    run = command.main.callback
    assert run is not None
    with patch.object(command, "stage", broken), pytest.raises(SystemExit) as ended:
        run((), 1, (), list_only=False)
    assert ended.value.code == 2
