"""docs/asvs.md: every requirement of ASVS 5.0.0 up to level 2 has a line, and every test that it names exists."""

import re

from tests.architecture.repository import ROOT

PAGE = (ROOT / "docs" / "asvs.md").read_text()
ROWS = re.findall(r"^\| (\d+\.\d+\.\d+) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)

# By section, how many of its requirements are of level 1 or 2. In each section these come first.
REQUIREMENTS = {
    "1.1": 2, "1.2": 9, "1.3": 11, "1.4": 3, "1.5": 2,
    "2.1": 3, "2.2": 3, "2.3": 4, "2.4": 1,
    "3.2": 2, "3.3": 4, "3.4": 6, "3.5": 5, "3.7": 2,
    "4.1": 3, "4.2": 1, "4.3": 2, "4.4": 4,
    "5.1": 1, "5.2": 3, "5.3": 2, "5.4": 3,
    "6.1": 3, "6.2": 12, "6.3": 4, "6.4": 4, "6.5": 5, "6.6": 3, "6.8": 4,
    "7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5, "7.5": 2, "7.6": 2,
    "8.1": 2, "8.2": 3, "8.3": 1, "8.4": 1,
    "9.1": 3, "9.2": 4,
    "10.1": 2, "10.2": 2, "10.3": 4, "10.4": 11, "10.5": 5, "10.6": 2, "10.7": 3,
    "11.1": 2, "11.2": 3, "11.3": 3, "11.4": 4, "11.5": 1, "11.6": 1,
    "12.1": 3, "12.2": 2, "12.3": 4,
    "13.1": 1, "13.2": 5, "13.3": 2, "13.4": 5,
    "14.1": 2, "14.2": 4, "14.3": 3,
    "15.1": 3, "15.2": 3, "15.3": 7,
    "16.1": 1, "16.2": 5, "16.3": 4, "16.4": 3, "16.5": 3,
    "17.1": 1, "17.2": 4, "17.3": 2,
}  # fmt: skip


def kind_of(cell: str) -> str:
    if cell.startswith("not applicable: "):
        return "not applicable"
    return "not held" if cell.startswith("**not held**: ") else "held"


def test_no_requirement_is_missing() -> None:
    wanted = [f"{section}.{number + 1}" for section, count in REQUIREMENTS.items() for number in range(count)]
    assert len(wanted) == 253
    assert [number for number, _, _ in ROWS] == wanted


def test_a_requirement_that_is_held_names_tests_that_exist() -> None:
    for number, _, cell in ROWS:
        named = re.findall(r"`(tests/[^`]+)`", cell)
        assert named or kind_of(cell) != "held", number
        assert [name for name in named if not (ROOT / name).is_file()] == [], number


def test_the_page_counts_its_lines() -> None:
    kinds = [kind_of(cell) for _, _, cell in ROWS]
    told = re.search(r"Of (\d+) requirements, (\d+) are held by tests, (\d+) are not held.* and\n(\d+) do not", PAGE)
    assert told is not None
    counts = [len(kinds), *(kinds.count(kind) for kind in ("held", "not held", "not applicable"))]
    assert [int(number) for number in told.groups()] == counts


def test_the_security_page_tells_the_same_and_names_tests_that_exist() -> None:
    page = (ROOT / "SECURITY.md").read_text()
    told = re.findall(r"^\| V(\d+) [^|]+ \| (\d+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    for chapter, *counts in told:
        kinds = [kind_of(cell) for number, _, cell in ROWS if number.startswith(f"{chapter}.")]
        assert [int(count) for count in counts] == [kinds.count(k) for k in ("held", "not held", "not applicable")]
    assert len(told) == 17
    assert [name for name in re.findall(r"`(tests/[^`]+)`", page) if not (ROOT / name).is_file()] == []
