"""A process that ended by itself is named, and quoted: its log is often gone when somebody reads the sentence."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from footfall.local.last_words import LONGEST_LINE, ended_process

LOGS = {
    "front.log": ["{}", json.dumps({"event": "Application startup failed.", "level": "error"})],
    "projector-3003.log": [json.dumps({"event": "kafka_away", "error": "TimeoutError", "detail": "no answer"})],
    "console.log": ["Traceback", "x" * 1_000],
}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("front --port 3000", "the front (pid 7, exit code 3, its last words: Application startup failed.)"),
        (
            "projector --port 3003",
            "the projector (pid 7, exit code 3, its last words: kafka_away TimeoutError no answer)",
        ),
        ("projector --port 3004", "the projector (pid 7, exit code 3)"),
        ("console --port 1", f"the console (pid 7, exit code 3, its last words: {'x' * LONGEST_LINE})"),
    ],
)
def test_a_process_that_ended_is_named_and_quoted(tmp_path: Path, arguments: str, said: str) -> None:
    for name, lines in LOGS.items():
        (tmp_path / name).write_text("\n".join([*lines, ""]))
    process = SimpleNamespace(args=["python", "-m", "footfall", *arguments.split()], pid=7, returncode=3)
    assert ended_process(process, tmp_path) == said  # type: ignore[arg-type]


def test_an_empty_log_and_one_of_strange_json_are_no_reason_to_fail(tmp_path: Path) -> None:
    process = SimpleNamespace(args=["-m", "footfall", "front", "--port", "1"], pid=7, returncode=1)
    for text, said in (("", ""), ("[1]\n", ", its last words: [1]"), ("3\n", ", its last words: 3")):
        (tmp_path / "front.log").write_text(text)
        assert ended_process(process, tmp_path) == f"the front (pid 7, exit code 1{said})"  # type: ignore[arg-type]
