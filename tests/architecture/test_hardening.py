"""What must not be in the code or the image: words that would change it without any other test to notice."""

import re

import pytest

from tests.architecture.repository import ROOMS, ROOT

SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
}
IMAGE = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize(
    "word",
    [
        r"\b(?:eval|exec)\(",  # 1.3.2: nothing that is told is run
        r"\bdebug=(?!False)",  # 13.4.2: no framework tells more than it should
        r"\bfollow_redirects=(?!False)",  # 15.3.2: httpx follows none by itself
        r"\bpickle\b|\bmarshal\b|yaml\.load\(",
    ],
)
def test_the_rooms_never_say(word: str) -> None:
    found = [name for name, source in SOURCES.items() if re.search(word, source, re.MULTILINE)]
    assert not found, f"{word}: {found}"


def test_scripts_of_the_console_run_no_text() -> None:
    ours = (ROOT / "console" / "assets" / "console.js").read_text()
    assert not re.search(r"\beval\(|new Function|innerHTML|set(?:Timeout|Interval)\(\s*[\"'`]", ours)
    assert '"allowEval":false' in (ROOT / "console" / "templates" / "base.html").read_text()


def test_the_image_has_what_is_named_and_neither_history_nor_tests() -> None:
    assert IMAGE[0] == "*", "nothing goes in unless it is named"
    named = {line.removeprefix("!").strip("/") for line in IMAGE if line.startswith("!")}
    assert not named & {".git", ".env", "tests", "examples", "bench", "chaos", "docs", "deploy"}
    assert all(re.fullmatch(r"[\w.-]+", name) for name in named), "no pattern that may take more along"
    assert [line for line in IMAGE[1:] if not line.startswith("!")] == ["**/__pycache__"]
